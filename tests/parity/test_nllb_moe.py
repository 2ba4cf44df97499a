"""Nllb-moe beyond the common table: experts without room, second experts by chance, the loss of routers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.models.families.nllb_moe.top2_routing import BiasedExperts, Top2Experts
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from tests.models.tiny import tiny
from tests.parity.cases import Case
from tests.parity.cases.bart_like import NLLB
from tests.parity.harness import (
    Pair,
    difference,
    gradients,
    inputs_of,
    pair,
    published_gradients,
    real_places,
    transformers,
)

FULL = {**NLLB, "moe_eval_capacity_token_fraction": 0.2}
"""Experts turn tokens away."""
CROWDED = {
    "by place": FULL,
    "by chance": {**FULL, "batch_prioritized_routing": True},
    "shares of all": {**FULL, "normalize_router_prob_before_dropping": True},
    "with padding": {**FULL, "router_ignore_padding_tokens": True},
    "by count": {**NLLB, "moe_eval_capacity_token_fraction": -1.0, "expert_capacity": 6},
    "by fair shares": {**NLLB, "moe_eval_capacity_token_fraction": 0.0, "expert_capacity": None},
}
crowded = pytest.mark.parametrize("options", CROWDED.values(), ids=CROWDED.keys())


pytestmark = pytest.mark.usefixtures("one_thread")


def both_of(options: dict[str, Any], folder: Path, task: str = "base", **more: Any) -> Pair:
    return pair(Case("nllb-moe", options), task, folder, **more)


@crowded
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_experts_without_room(options: dict[str, Any], left: bool, tmp_path: Path) -> None:
    """States and gradients where tokens pass by their experts, with and without padding in the computation."""
    both = both_of(options, tmp_path)
    inputs = inputs_of(Case("nllb-moe", options), both.reference.config, left=left)
    places = real_places(inputs)
    theirs = both.reference(**inputs)
    gradients(both.reference, theirs.last_hidden_state, places)
    for pack in (True, False):
        both.ours.pack = pack
        ours = both.ours(**inputs, output_router_logits=True)
        assert difference(ours.last_hidden_state, theirs.last_hidden_state, places) < 1e-5
        source = inputs["attention_mask"].bool()
        assert difference(ours.encoder_last_hidden_state, theirs.encoder_last_hidden_state, source) < 1e-5
        if options.get("expert_capacity", 0) is not None:
            used = ours.encoder_router_logits[0][source]
            assert int(((used > 0).sum(-1) < 2).sum()) > 0, "all tokens found room"
        gradients(both.ours, ours.last_hidden_state, places)
        found = published_gradients(both.ours, "")
        for name, parameter in both.reference.named_parameters():
            if parameter.grad is not None:
                assert difference(found[name], parameter.grad) < 1e-5 * max(1.0, float(parameter.grad.abs().max()))


def test_room_in_training(tmp_path: Path) -> None:
    """It is `expert_capacity` there, of all texts together."""
    quiet = dict.fromkeys(("dropout", "attention_dropout", "moe_token_dropout"), 0.0)
    both = both_of({**NLLB, **quiet, "expert_capacity": 5}, tmp_path)
    inputs = inputs_of(Case("nllb-moe", NLLB), both.reference.config)
    both.reference.train()
    both.ours.train()
    expected = both.reference(**inputs).last_hidden_state
    assert difference(both.ours(**inputs).last_hidden_state, expected, real_places(inputs)) < 1e-5
    assert difference(both.ours.eval()(**inputs).last_hidden_state, expected, real_places(inputs)) > 0.01


@pytest.mark.parametrize("policy", ["random", "sampling"])
@pytest.mark.parametrize("before", [False, True], ids=["kept", "all"])
def test_second_experts_by_chance(policy: str, before: bool, tmp_path: Path) -> None:
    """The same numbers are drawn as in the reference's layers."""
    options = {**NLLB, "second_expert_policy": policy, "normalize_router_prob_before_dropping": before}
    both = both_of(options, tmp_path)
    theirs, ours = both.reference.encoder.layers[1].ffn, both.ours.body.encoder.layers[1].mlp  # type: ignore[index,union-attr]
    x = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(1))
    ctx = Context(layout=Layout(2, 30), positions=torch.arange(30)[None])
    torch.manual_seed(0)
    expected = theirs(x, None)[0]
    for seed, same in ((0, True), (1, False)):
        torch.manual_seed(seed)
        assert (difference(ours(x, ctx), expected) < 1e-5) is same


def test_loss_of_routers(tmp_path: Path) -> None:
    """The reference takes the encoder's loss for the decoder's too, and mixes up layers where a side has several."""
    options = {**NLLB, "encoder_layers": 2, "decoder_layers": 2, "output_router_logits": True}
    both = both_of(options, tmp_path, "seq2seq-lm")
    ids = inputs_of(Case("nllb-moe", NLLB), both.reference.config)["input_ids"][:1].repeat(2, 1)
    given = {"input_ids": ids, "decoder_input_ids": ids.roll(1, 1)}
    theirs, ours = both.reference(**given, labels=ids), both.ours(**given, labels=ids)
    balance = transformers.models.nllb_moe.modeling_nllb_moe.load_balancing_loss_func
    expected = {}
    for side in ("encoder", "decoder"):
        weights, first = theirs[f"{side}_router_logits"][1]
        assert difference(ours[f"{side}_router_logits"][0].flatten(0, 1), weights) < 1e-5
        expected[side] = balance(weights, first[:, None])
        torch.testing.assert_close(ours[f"{side}_aux_loss"], expected[side])
    torch.testing.assert_close(theirs.encoder_aux_loss, expected["encoder"])
    plain = both.ours(**given, labels=ids, output_router_logits=False)
    assert plain.encoder_aux_loss is None
    torch.testing.assert_close(ours.loss, plain.loss + 0.001 * (expected["encoder"] + expected["decoder"]))


def test_padding_has_no_part_in_the_loss_of_routers() -> None:
    model = tiny("nllb-moe", "seq2seq-lm", output_router_logits=True)
    ids = torch.randint(11, 100, (1, 9), generator=torch.Generator().manual_seed(1))
    short = model(ids[:, :6], decoder_input_ids=ids)
    mask = (torch.arange(9) < 6).long()[None]
    for pack in (True, False):
        model.pack = pack
        longer = model(ids, mask, decoder_input_ids=ids)
        torch.testing.assert_close(longer.encoder_aux_loss, short.encoder_aux_loss)


def test_sides_without_experts() -> None:
    model = tiny("nllb-moe", "seq2seq-lm", encoder_sparse_step=0, decoder_sparse_step=3)
    ids = torch.randint(11, 100, (1, 6), generator=torch.Generator().manual_seed(1))
    output = model(ids, decoder_input_ids=ids, output_router_logits=True)
    assert output.encoder_router_logits is None
    assert [x.shape for x in output.decoder_router_logits] == [(1, 6, 4)]
    assert [isinstance(part.mlp, Top2Experts) for part in model.body.decoder.layers] == [False, False, True, False]  # type: ignore[union-attr]


def test_what_evaluation_takes_off() -> None:
    """As much as dropout leaves out in training, where what is left is scaled up."""
    config = BiasedExperts.Config(count=2, hidden_size=4, inner_size=8, activation="relu", dropout=0.25)
    torch.manual_seed(0)
    experts = config.build()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x, chosen, weights = torch.randn(4000, 4), torch.tensor([[0]]).expand(4000, 1), torch.ones(4000, 1)
    assert math.isclose(float((experts(x, chosen, weights) == 0).float().mean()), 0.25, abs_tol=0.02)
    kept = experts.eval()(x, chosen, weights)
    bare = torch.relu(x @ experts.up[0].t() + experts.up_bias[0]) @ experts.down[0].t() + experts.down_bias[0]
    torch.testing.assert_close(kept, bare * 0.75)
