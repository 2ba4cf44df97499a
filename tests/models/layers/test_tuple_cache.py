"""A cache as tuples of tensors continues a text as the cache does that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.models import from_pretrained
from eir_seq.models.layers.cache import Cache
from tests.models.tiny import noisy, tiny

SOURCE = torch.tensor([[7, 8, 9, 2], [5, 6, 2, 1]])
TARGET = torch.tensor([[2, 11, 12, 13], [2, 21, 22, 23]])


def inputs_of(model: Any, encoded: Any = None) -> dict[str, Any]:
    if model.task == "causal-lm":
        return {}
    return {
        "attention_mask": (SOURCE != 1).long(),
        **({"encoder_outputs": encoded} if encoded else {"input_ids": SOURCE}),
    }


@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        *((name, "seq2seq-lm") for name in ("bart", "mvp", "t5", "m2m_100", "prophetnet", "t5gemma")),
        *((name, "causal-lm") for name in ("gpt2", "llama", "qwen2", "mvp", "bert")),
    ],
)
@pytest.mark.parametrize("kind", [tuple, list])
def test_tuples_continue_a_text(model_type: str, task: str, kind: Any) -> None:
    more: dict[str, Any] = {"use_prompt": True} if (model_type, task) == ("mvp", "seq2seq-lm") else {}
    more |= {"is_decoder": True} if model_type == "bert" else {}
    more |= {"published_bias_order": False} if model_type == "prophetnet" else {}
    model: Any = noisy(tiny(model_type, task, **more))
    name = "input_ids" if task == "causal-lm" else "decoder_input_ids"
    first = model(**inputs_of(model), **{name: TARGET[:, :2]}, use_cache=True)
    given = first.past_key_values.as_tuples()
    assert given[0][0].shape[2] == 2
    assert len(given[0]) == (2 if task == "causal-lm" else 4)
    before = [[x.clone() for x in layer] for layer in given]
    encoded = None if task == "causal-lm" else (first.encoder_last_hidden_state,)
    rest = inputs_of(model, encoded)
    tuples = model(**rest, **{name: TARGET[:, 2:]}, past_key_values=kind(map(kind, given)), use_cache=True)
    cached = model(**rest, **{name: TARGET[:, 2:]}, past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(tuples.logits, cached.logits, atol=0, rtol=0)
    assert isinstance(tuples.past_key_values, Cache)
    assert tuples.past_key_values.length == 4
    assert all(
        torch.equal(x, y) for one, other in zip(given, before, strict=True) for x, y in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("model_type", "past", "message"),
    [
        ("gpt2", ((torch.zeros(1, 4, 2, 8),) * 2,), "past_key_values has 1 layers, the decoder 2"),
        ("gpt2", ((torch.zeros(1, 4, 2, 8),) * 4,) * 2, "layer 0 must be tensors .* of keys and values$"),
        ("gpt2", ((torch.zeros(4, 2, 8),) * 2,) * 2, "layer 0 must be tensors"),
        ("mamba", ((torch.zeros(1, 4, 2, 8),) * 2,) * 2, "this model keeps no keys and values"),
    ],
)
def test_what_is_refused(model_type: str, past: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(model_type, "causal-lm")(TARGET, past_key_values=past)


@pytest.mark.parametrize("model_type", ["mvp", "bart"])
def test_configs_of_old_force_the_first_token(tmp_path: Path, model_type: str) -> None:
    import json

    noisy(tiny(model_type, "seq2seq-lm")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for stated, expected in (({}, 0), ({"forced_bos_token_id": 9}, 9), ({"forced_bos_token_id": None}, 0)):
        old = {**config, "force_bos_token_to_be_generated": True, "bos_token_id": 0, **stated}
        (tmp_path / "config.json").write_text(json.dumps(old))
        model = from_pretrained(tmp_path)
        assert model.generate(SOURCE, max_new_tokens=3)[:, 1].tolist() == [expected] * 2  # type: ignore[index]
    assert model.generate(SOURCE, max_new_tokens=3, forced_bos_token_id=7)[:, 1].tolist() == [7, 7]  # type: ignore[index]
