"""Opt, biogpt and xglm: positions that are given or counted past holes, another text beside, layers left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model
from tests.parity.cases import CASES
from tests.parity.cases.opt import OPT, XGLM
from tests.parity.harness import difference, inputs_of, pair

ROWS = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", ["biogpt", "opt", "opt@narrow", "xglm", "xglm@blank_position"])
def test_positions_that_are_given_count_from_zero(name: str, tmp_path: Path) -> None:
    both = pair(ROWS[name], "base", tmp_path)
    inputs = inputs_of(ROWS[name], both.reference.config)
    own = (torch.arange(24)[None] * 2 + torch.arange(3)[:, None]) % 60
    expected = both.reference(
        **inputs, position_ids=own.clone()
    ).last_hidden_state  # the reference writes into what it gets
    for pack in (True, False):
        both.ours.pack = pack
        found = both.ours(**inputs, position_ids=own).last_hidden_state
        assert difference(found, expected, inputs["attention_mask"].bool()) < 1e-5


@pytest.mark.parametrize("name", ["biogpt", "opt"])
def test_holes_in_the_mask_are_not_counted(name: str, tmp_path: Path) -> None:
    both = pair(ROWS[name], "base", tmp_path)
    inputs = inputs_of(ROWS[name], both.reference.config)
    inputs["attention_mask"][:, 2:5] = 0
    expected = both.reference(**inputs).last_hidden_state
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).last_hidden_state, expected, inputs["attention_mask"].bool()) < 1e-5


def test_xglm_beside_another_text(tmp_path: Path) -> None:
    """Cross-attention: states, weights, head masks."""
    both = pair(ROWS["xglm"], "base", tmp_path, add_cross_attention=True)
    inputs = inputs_of(ROWS["xglm"], both.reference.config)
    generator = torch.Generator().manual_seed(3)
    inputs["encoder_hidden_states"] = torch.randn(3, 7, 32, generator=generator)
    inputs["encoder_attention_mask"] = (torch.arange(7)[None] < torch.tensor([7, 4, 2])[:, None]).long()
    places = inputs["attention_mask"].bool()
    theirs = both.reference(**inputs, output_attentions=True)
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).last_hidden_state, theirs.last_hidden_state, places) < 1e-5
    ours = both.ours(**inputs, output_attentions=True)
    for found, expected in zip(ours.cross_attentions, theirs.cross_attentions, strict=True):
        assert difference(found.transpose(1, 2), expected.transpose(1, 2), places) < 1e-5
    both.ours.save_pretrained(tmp_path / "back")
    again = type(both.reference).from_pretrained(tmp_path / "back")
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in both.reference.state_dict().items())


@pytest.mark.parametrize("model_type", ["biogpt", "opt", "xglm"])
def test_layers_left_out_in_training(model_type: str) -> None:
    """With certainty every layer is; in evaluation none is."""
    model = create_model(model_type, {**ROWS[model_type].options, "layerdrop": 1.0}).train()
    output = model(torch.tensor([[5, 6, 7]]), output_hidden_states=True)
    assert torch.equal(output.hidden_states[1], output.hidden_states[0])
    model.eval()
    output = model(torch.tensor([[5, 6, 7]]), output_hidden_states=True)
    assert not torch.equal(output.hidden_states[1], output.hidden_states[0])


def test_norms_without_parameters() -> None:
    """The reference cannot build these: it sets shifts that are not there."""
    torch.manual_seed(0)
    model = create_model("opt", {**OPT, "layer_norm_elementwise_affine": False})
    assert not [name for name, _ in model.named_parameters() if "norm" in name]
    state = model.eval()(torch.tensor([[5, 6, 7]])).last_hidden_state
    assert torch.allclose(state.mean(-1), torch.zeros(1, 3), atol=1e-5)
    assert torch.allclose(state.var(-1, unbiased=False), torch.ones(1, 3), atol=5e-2)  # less by the norm's epsilon


def test_options_that_cannot_work_together() -> None:
    for model_type, options, place in (
        ("opt", {**OPT, "hidden_size": 30}, "hidden_size"),
        ("xglm", {**XGLM, "d_model": 30}, "d_model"),
        ("xglm", {**XGLM, "d_model": 2, "attention_heads": 1}, "d_model"),
    ):
        with pytest.raises(UserError) as caught:
            create_model(model_type, options)
        assert [fault.place for fault in caught.value.faults] == [place]
