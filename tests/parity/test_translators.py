"""M2m_100 beyond the common table: its documented size, files and languages, positions, layers left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eir_seq.models import create_model, from_pretrained
from eir_seq.models.catalogue import architecture
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from tests.models.tiny import tiny
from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, inputs_of, pair

FRENCH = 77


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("task", ["base", "seq2seq-lm"])
def test_documented_size(task: str) -> None:
    with torch.device("meta"):
        model = Model(architecture("m2m_100"), build_config("m2m_100"), task)
    assert sum(parameter.numel() for parameter in model.parameters()) == 483_905_536


def test_one_token_table_and_no_positions_in_files(tmp_path: Path) -> None:
    tiny("m2m_100", "seq2seq-lm").save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert [name for name in names if "embed" in name or "shared" in name or "lm_head" in name] == [
        "model.shared.weight"
    ]
    assert not [name for name in names if "position" in name]


def test_a_text_begins_with_its_language(tmp_path: Path) -> None:
    """By the call, or by the options of a checkpoint; as the reference's do."""
    both = pair(case_of("m2m_100"), "seq2seq-lm", tmp_path)
    inputs = inputs_of(case_of("m2m_100"), both.reference.config)
    given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    for beams in (1, 3):
        options: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 9}
        expected = both.reference.generate(**given, **options, forced_bos_token_id=FRENCH)
        found = both.ours.generate(**given, **options, forced_bos_token_id=FRENCH)
        assert found[:, :2].tolist() == [[2, FRENCH]] * 3  # type: ignore[index]
        assert torch.equal(found, expected)  # type: ignore[arg-type]
    kept = create_model("m2m_100", {**case_of("m2m_100").options, "forced_bos_token_id": FRENCH}, task="seq2seq-lm")
    assert kept.generate(given["input_ids"], max_new_tokens=3)[:, :2].tolist() == [[2, FRENCH]] * 3  # type: ignore[index]


def test_positions_of_a_cached_text_count_its_real_tokens() -> None:
    """Decoder tokens padded on the left: one by one as in one pass."""
    model = tiny("m2m_100")
    ids = torch.randint(11, 100, (2, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    ids = ids.masked_fill(mask == 0, 1)
    source = torch.randint(11, 100, (2, 5), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = model(source, decoder_input_ids=ids, decoder_attention_mask=mask).last_hidden_state
        cache, steps = None, []
        for place in range(6):
            step = model(
                source,
                decoder_input_ids=ids[:, place : place + 1],
                decoder_attention_mask=mask[:, : place + 1],
                past_key_values=cache,
                use_cache=True,
            )
            cache = step.past_key_values
            steps.append(step.last_hidden_state)
    assert difference(torch.cat(steps, 1), whole, mask.bool()) < 1e-5


def test_texts_may_be_longer_than_the_options_say(tmp_path: Path) -> None:
    """Sinusoids go on, as the reference's table grows."""
    both = pair(case_of("m2m_100"), "base", tmp_path, max_position_embeddings=16)
    inputs = inputs_of(case_of("m2m_100"), both.reference.config)
    assert inputs["input_ids"].shape[1] > 16
    places = inputs["decoder_attention_mask"].bool()
    found, expected = both.ours(**inputs).last_hidden_state, both.reference(**inputs).last_hidden_state
    assert difference(found, expected, places) < 1e-5


def test_layers_left_out_in_training() -> None:
    """Each side by its own chance: of an encoder without layers the norm of the embeddings is left."""
    model = tiny("m2m_100", "encoder", encoder_layerdrop=1.0, dropout=0.0)
    ids = torch.randint(11, 100, (2, 6), generator=torch.Generator().manual_seed(1))
    body: Any = model.body
    layerless = body.final_norm(body.embeddings(ids, None, torch.arange(2, 8)[None], None, {}))
    assert difference(model.train()(ids).last_hidden_state, layerless) < 1e-6
    assert difference(model.eval()(ids).last_hidden_state, layerless) > 0.1


def test_kernels_agree_with_weights_spelt_out() -> None:
    """What is computed when weights are wanted (eager) and what torch's kernels compute are the same to rounding."""
    model = tiny("m2m_100")
    ids = torch.randint(11, 100, (2, 6), generator=torch.Generator().manual_seed(1))
    fused = model(ids, decoder_input_ids=ids)
    spelt = model(ids, decoder_input_ids=ids, output_attentions=True)
    assert len(spelt.cross_attentions) == 2
    assert difference(fused.last_hidden_state, spelt.last_hidden_state) < 1e-5


def test_old_files_hold_waves(tmp_path: Path) -> None:
    """They are not wanted, and nobody is told of them."""
    model = tiny("m2m_100", "seq2seq-lm")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {f"model.{side}.embed_positions.weights": torch.zeros(66, 32) for side in ("encoder", "decoder")}
    save_file(tensors, tmp_path / "model.safetensors")
    again: Any = from_pretrained(tmp_path)
    assert again.load_report.unused == ()
