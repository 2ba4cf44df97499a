"""What the table of parity cannot hold of encoders with inputs of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.families.ibert.integer_ops import Requantize
from eir_seq.models.families.markuplm.options import MarkupLMConfig
from eir_seq.models.option_checks import build_config
from tests.parity.cases.base import LENGTH, Case, bertish
from tests.parity.cases.special_inputs import IDS, regions
from tests.parity.harness import difference, inputs_of, pair, real_places


def test_regions_pass_by_the_layers(tmp_path: Path) -> None:
    """The reference's own forward fails here, its parts in the documented order do not."""
    case = Case("visual_bert@bypass", bertish(visual_embedding_dim=20, bypass_transformer=True, **IDS), regions)
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    lowest = torch.finfo(torch.float32).min
    every = torch.cat((inputs["attention_mask"], inputs["visual_attention_mask"]), 1)
    masks = [((1.0 - mask.float()) * lowest)[:, None, None] for mask in (inputs["attention_mask"], every)]
    own = {name: inputs[name] for name in ("input_ids", "token_type_ids", "visual_embeds", "visual_token_type_ids")}
    first = both.reference.embeddings(**own)
    text = both.reference.encoder(first[:, :LENGTH], masks[0]).last_hidden_state
    expected = both.reference.additional_layer(torch.cat((text, first[:, LENGTH:]), 1), masks[1])[0]
    for pack in (True, False):
        both.ours.pack = pack
        ours = both.ours(**inputs)
        assert difference(ours.last_hidden_state, expected, real_places(inputs)) < 1e-5
        assert difference(ours.pooler_output, both.reference.pooler(expected)) < 1e-5
    depths = {both.ours.layer_of(name) for name, _ in both.ours.named_parameters() if ".closing." in name}
    assert depths == {both.ours.num_layers} == {3}


def test_faults_of_own_inputs() -> None:
    ids = torch.full((2, 6), 20)
    layoutlm = create_model("layoutlm", bertish(max_2d_position_embeddings=64))
    with pytest.raises(ValueError, match=r"0 \.\.\. 63, these reach 64"):
        layoutlm(ids, bbox=torch.full((2, 6, 4), 64))
    with pytest.raises(ValueError, match="right edge left of its left one"):
        layoutlm(ids, bbox=torch.tensor([5, 5, 4, 9]).expand(2, 6, 4))
    markuplm = create_model("markuplm", bertish(max_depth=5))
    with pytest.raises(ValueError, match="xpath_tags_seq has 4 steps per token, max_depth is 5"):
        markuplm(ids, xpath_tags_seq=torch.zeros(2, 6, 4, dtype=torch.long))
    fnet = create_model("fnet", {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48})
    with pytest.raises(ValueError, match="without attention"):
        fnet(ids, output_attentions=True)
    luke = create_model("luke", bertish(entity_vocab_size=20, entity_emb_size=12))
    with pytest.raises(ValueError, match="belong together"):
        luke(ids, entity_ids=torch.ones(2, 3, dtype=torch.long))
    visual = create_model("visual_bert", bertish(visual_embedding_dim=20))
    with pytest.raises(ValueError, match="width 19, visual_embedding_dim is 20"):
        visual(ids, visual_embeds=torch.zeros(2, 3, 19))


def test_fresh_tables_of_regions() -> None:
    """They begin as copies of those of the text, if asked."""
    for copied in (True, False):
        torch.manual_seed(0)
        model = create_model("visual_bert", bertish(special_visual_initialize=copied))
        text, others = model.body.embeddings, model.body.embeddings.others
        assert torch.equal(text.positions.weight, others.positions.weight) is copied
        assert torch.equal(text.segments.weight, others.segments.weight) is copied


def test_files_without_ranges(tmp_path: Path) -> None:
    """A file of weights alone, without what training has noted, loads with ranges that nothing has touched."""
    both = pair(Case("ibert", bertish(**IDS)), "base", tmp_path)
    weights = {
        name: x for name, x in load_file(tmp_path / "model.safetensors").items() if name in named(both.reference)
    }
    save_file(weights, tmp_path / "model.safetensors")
    model = from_pretrained(tmp_path)
    assert all(name.rpartition(".")[2] not in ("weight", "bias") for name in model.load_report.initialised)
    assert model.body.layers[0].up_range.x_max.item() == pytest.approx(1e-5)
    inputs = inputs_of(Case("ibert", {}), both.reference.config)
    expected = both.reference(**inputs).last_hidden_state
    assert difference(model(**inputs).last_hidden_state, expected, real_places(inputs)) < 1e-5


def named(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return dict(model.named_parameters())


def test_names_of_the_width_of_a_step() -> None:
    """The documented name means the published one."""
    config = build_config("markuplm", {"xpath_tag_unit_hidden_size": 16})
    assert isinstance(config, MarkupLMConfig)
    assert config.xpath_unit_hidden_size == 16
    with pytest.raises(UserError, match="16 contradicts xpath_unit_hidden_size 8"):
        build_config("markuplm", {"xpath_tag_unit_hidden_size": 16, "xpath_unit_hidden_size": 8})


def test_whole_numbers_learn() -> None:
    """Trained in integers, a model fits a few texts; two passes may share one backward pass."""
    torch.manual_seed(0)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = create_model("ibert", bertish(quant_mode=True, **off, **IDS), task="sequence-classification").train()
    ids, labels = torch.randint(11, 120, (8, 10)), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        loss = model(ids[:4], labels=labels[:4]).loss + model(ids[4:], labels=labels[4:]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.eval()(ids).logits.argmax(-1) == labels).all()


def test_whole_numbers_are_kept_whole() -> None:
    """Mixed precision changes nothing of them; half precision is refused."""
    torch.manual_seed(0)
    model = create_model("ibert", bertish(quant_mode=True, **IDS))
    ids = torch.randint(11, 120, (4, 10))
    with torch.no_grad():
        model.train()(ids)
        expected = model.eval()(ids).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(ids).last_hidden_state, expected)
    with pytest.raises(ValueError, match="quant_mode needs weights in float32"):
        model.to(torch.bfloat16)(ids)


def test_ranges_follow_training() -> None:
    """The first batch sets the range, later ones move it by a twentieth; evaluation leaves it."""
    place = Requantize(8, whole=True).train()
    place(torch.tensor([-1.0, 3.0]))
    assert (place.x_min.item(), place.x_max.item()) == pytest.approx((-1.0, 3.0), abs=1e-4)
    place(torch.tensor([-2.0, 2.0]))
    assert (place.x_min.item(), place.x_max.item()) == pytest.approx((-1.05, 2.95), abs=1e-4)
    states, scale = place.eval()(torch.tensor([9.0, -9.0, 0.0]))
    assert place.x_max.item() == pytest.approx(2.95, abs=1e-4)
    assert scale is not None
    assert (states / scale).tolist() == pytest.approx([126.0, -127.0, 0.0])
