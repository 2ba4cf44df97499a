"""Experts that run full, and the losses of routers, beside the reference and point by point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.models import create_model, from_pretrained
from eir_seq.models.families.switch_transformers.routing import SwitchExperts, within_capacity
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.moe.experts import Experts, router_scores
from tests.parity.cases import Case
from tests.parity.cases.t5_like import SWITCH
from tests.parity.harness import Pair, difference, inputs_of, pair, real_places

FULL = Case("switch_transformers@full", {**SWITCH, "expert_capacity": 2, "router_bias": False})


pytestmark = pytest.mark.usefixtures("one_thread")


def both_of(task: str, folder: Path, **more: Any) -> tuple[Pair, dict[str, Tensor]]:
    both = pair(FULL, task, folder, **more)
    return both, inputs_of(FULL, both.reference.config)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_experts_that_run_full(left: bool, tmp_path: Path) -> None:
    """Room is counted per text, and padding takes some: that in front of a text is therefore not left out."""
    both = pair(FULL, "base", tmp_path)
    inputs = inputs_of(FULL, both.reference.config, left=left)
    places = real_places(inputs)
    theirs = both.reference(**inputs).last_hidden_state
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).last_hidden_state, theirs, places) < 1e-5
    roomy = from_pretrained(tmp_path, expert_capacity=64)(**inputs).last_hidden_state
    assert difference(roomy, theirs, places) > 0.1


@pytest.mark.parametrize("wanted", [None, True, False], ids=str)
def test_losses_of_routers(wanted: bool | None, tmp_path: Path) -> None:
    """By default they enter the loss; tokens without room count for the first expert, as published."""
    both, inputs = both_of("seq2seq-lm", tmp_path)
    inputs["labels"] = inputs["decoder_input_ids"].masked_fill(inputs["decoder_attention_mask"] == 0, -100)
    asked = {} if wanted is None else {"output_router_logits": wanted}
    theirs, ours = both.reference(**inputs, **asked), both.ours(**inputs, **asked)
    assert difference(ours.loss, theirs.loss) < 1e-5
    names = ("encoder_z_loss", "decoder_z_loss", "encoder_aux_loss", "decoder_aux_loss")
    if wanted is False:
        assert all(ours[name] is None for name in names if name in ours)
        return
    assert list(ours)[:6] == ["loss", "logits", *names]
    for name in names:
        assert difference(ours[name], theirs[name]) < 1e-5
    for side in ("encoder", "decoder"):
        expected = [found[0] for found in theirs[f"{side}_router_logits"] if found[0].dim() == 3]
        assert len(expected) == len(ours[f"{side}_router_logits"])
        for our_scores, their_scores in zip(ours[f"{side}_router_logits"], expected, strict=True):
            assert difference(our_scores, their_scores) < 3e-5  # of scores up to 12, with steps of 1e-6
    ours.loss.backward()
    theirs.loss.backward()
    router = both.reference.encoder.block[1].layer[1].mlp.router.classifier.weight.grad
    assert difference(both.ours.body.encoder.layers[1].mlp.router.weight.grad, router) < 1e-5


def test_further_loss_is_that_of_routers() -> None:
    torch.manual_seed(0)
    model = create_model("switch_transformers", SWITCH, task="seq2seq-lm").eval()
    ids = torch.tensor([[9, 8, 7, 1]])
    output = model(ids, labels=ids)
    bare = model(ids, labels=ids, output_router_logits=False)
    body = model.body(input_ids=ids, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(ids))
    assert model.head is not None
    further = model.head.further_loss(body, {})
    assert further is not None
    torch.testing.assert_close(output.loss, bare.loss + further)


def test_scores_of_routers_on_request(tmp_path: Path) -> None:
    model = create_model("switch_transformers", SWITCH)
    ids = torch.tensor([[9, 8, 7, 1]])
    assert model(ids, decoder_input_ids=ids).encoder_router_logits is None
    asked = model(ids, decoder_input_ids=ids, output_router_logits=True)
    assert [len(asked[f"{side}_router_logits"]) for side in ("encoder", "decoder")] == [2, 1]
    always = create_model("switch_transformers", {**SWITCH, "add_router_probs": True})
    assert len(always(ids, decoder_input_ids=ids).encoder_router_logits) == 2
    one_side = create_model("switch_transformers", {**SWITCH, "num_sparse_decoder_layers": 0})
    found = one_side(ids, decoder_input_ids=ids, output_router_logits=True)
    assert "decoder_router_logits" not in found
    dense = create_model("switch_transformers", {**SWITCH, **dict.fromkeys(SPARSE, 0)})
    with pytest.raises(ValueError, match="has no routers"):
        dense(ids, decoder_input_ids=ids, output_router_logits=True)


SPARSE = ("num_sparse_encoder_layers", "num_sparse_decoder_layers")


@pytest.mark.parametrize(("wanted", "expected"), [(0, []), (1, [1]), (2, [1, 3]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3])])
def test_layers_with_experts(wanted: int, expected: list[int]) -> None:
    model = create_model("switch_transformers", {**SWITCH, "num_sparse_encoder_layers": wanted})
    assert [i for i, layer in enumerate(model.body.encoder.layers) if hasattr(layer.mlp, "router")] == expected


def experts(**more: Any) -> SwitchExperts:
    inner = Experts.Config(count=3, hidden_size=8, inner_size=6, activation="relu", gated=False)
    options = {"capacity": 1, "jitter": 0.0, "bias": True, "dtype": torch.float32, "skips_padding": False, **more}
    block: SwitchExperts = SwitchExperts.Config(experts=inner, **options).build()
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return block


def tokens(count: int) -> Tensor:
    return torch.randn(1, count, 8, generator=torch.Generator().manual_seed(1))


def context(mask: Tensor) -> Context:
    layout = Layout.padded(*mask.shape, mask)
    return Context(layout=layout, positions=torch.arange(mask.shape[1])[None])


def test_room_is_given_in_order() -> None:
    taken = torch.tensor([[[1, 0], [1, 0], [0, 1], [1, 0]]])
    assert within_capacity(taken, 2).tolist() == [[[1, 0], [1, 0], [0, 1], [0, 0]]]
    assert within_capacity(taken, 1).tolist() == [[[1, 0], [0, 0], [0, 1], [0, 0]]]


def test_padding_can_take_no_room() -> None:
    """Then it does not matter on which side it stands, or whether it is left out."""
    block, x = experts(skips_padding=True), tokens(5)
    text = block(x, context(torch.ones(1, 5, dtype=torch.bool)))
    assert bool((text == 0).all(-1).any())  # some find no room
    mask = torch.tensor([[False] * 4 + [True] * 5])
    padded = block(torch.cat((x[:, :4].flip(1), x), 1), context(mask))
    torch.testing.assert_close(padded[:, 4:], text)
    assert bool((padded[:, :4] == 0).all())
    packed = Layout.padded(1, 9, mask).without_padding()
    alone = block(x[0], Context(layout=packed, positions=torch.arange(5)))
    torch.testing.assert_close(alone, text[0])
    full = experts()(torch.cat((x, x), 1), context(torch.ones(1, 10, dtype=torch.bool)))
    torch.testing.assert_close(full[:, :5], text)


def test_routers_keep_their_precision() -> None:
    block, x = experts(), tokens(5)
    expected = torch.nn.functional.linear(x, block.router.weight, block.router.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = router_scores(block.router, x, torch.float32)
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-6)
    assert router_scores(block.bfloat16().router, x.bfloat16(), torch.float32).dtype is torch.float32
    assert router_scores(experts().router, x, torch.bfloat16).dtype is torch.bfloat16


def test_jitter_in_training_only() -> None:
    block, x = experts(jitter=0.5, capacity=9), tokens(5)
    mask = context(torch.ones(1, 5, dtype=torch.bool))
    assert torch.equal(block.eval()(x, mask), block(x, mask))
    assert not torch.equal(block.train()(x, mask), block(x, mask))
