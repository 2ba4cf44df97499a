"""Xlnet beside the table of parity: kept states, orders of prediction, both streams, searched answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.cases import VOCABULARY, Case
from tests.parity.cases.relative import XLNET
from tests.parity.harness import Pair, difference, pair

TOLERANCE = 1e-5
BATCH, LENGTH = 4, 11


pytestmark = pytest.mark.usefixtures("one_thread")


def both(folder: Path, task: str = "base", **options: Any) -> Pair:
    return pair(Case("xlnet", {**XLNET, **options}), task, folder)


def text(length: int = LENGTH, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, VOCABULARY, (BATCH, length), generator=generator)
    return {"input_ids": ids, "token_type_ids": torch.randint(0, 2, ids.shape, generator=generator)}


def padded() -> dict[str, Tensor]:
    mask = (torch.arange(LENGTH)[None] < torch.tensor([LENGTH, 7, 4, 9])[:, None]).long()
    return {**text(), "attention_mask": mask}


def random_order(*, of_first: bool = True) -> dict[str, Tensor]:
    """Tokens see only those in front of them in a random order; three places of each text are predicted.

    `of_first`: also that of the first token, which sees nobody.
    """
    generator = torch.Generator().manual_seed(5)
    orders = torch.stack([torch.randperm(LENGTH, generator=generator) for _ in range(BATCH)])
    mapping = torch.zeros(BATCH, 3, LENGTH)
    for row, order in enumerate(orders):
        begin = 0 if of_first else 1
        mapping[row, torch.arange(3), order.argsort()[begin : begin + 3]] = 1.0
    return {"perm_mask": (orders[:, :, None] <= orders[:, None, :]).float(), "target_mapping": mapping}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mem_len": 5},
        {"mem_len": 14, "clamp_len": 4},
        {"reuse_len": 3},
        {"attn_type": "uni"},
        {"attn_type": "uni", "same_length": True, "mem_len": 6},
    ],
    ids=str,
)
def test_kept_states(options: dict[str, Any], tmp_path: Path) -> None:
    """Three texts in a row, each of which sees what was kept of those before."""
    models = both(tmp_path, **options)
    kept: list[Any] = [None, None]
    for seed, length in enumerate((LENGTH, 6, 9)):
        inputs = text(length, seed)
        theirs = models.reference(**inputs, mems=kept[0], output_hidden_states=True)
        ours = models.ours(**inputs, mems=kept[1], output_hidden_states=True)
        for our_state, their_state in zip(ours.hidden_states, theirs.hidden_states, strict=True):
            assert difference(our_state, their_state) < TOLERANCE
        for our_state, their_state in zip(ours.mems, theirs.mems, strict=True):
            assert difference(our_state, their_state) < TOLERANCE
            assert not our_state.requires_grad
        kept = [theirs.mems, ours.mems]


def test_one_token_at_a_time(tmp_path: Path) -> None:
    """A causal text read token by token, by what is kept, has the states of one pass."""
    ours = both(tmp_path, attn_type="uni").ours
    ids = text()["input_ids"]
    whole, kept, steps = ours(ids).last_hidden_state, None, []
    for place in range(LENGTH):
        step = ours(ids[:, place : place + 1], mems=kept)
        steps.append(step.last_hidden_state)
        kept = step.mems
    assert difference(torch.cat(steps, 1), whole) < TOLERANCE


def test_when_states_are_kept(tmp_path: Path) -> None:
    ours = both(tmp_path, use_mems_eval=False, use_mems_train=True).ours
    assert ours(**text()).mems is None
    assert len(ours(**text(), use_mems=True).mems) == 2
    assert len(ours.train()(**text()).mems) == 2
    assert ours(**text(), use_mems=False).mems is None


def test_kept_states_of_padding(tmp_path: Path) -> None:
    """Questions for, they are those of the reference, of padding too."""
    models = both(tmp_path)
    theirs = models.reference(**padded()).mems
    for our_state, their_state in zip(models.ours(**padded(), use_mems=True).mems, theirs, strict=True):
        assert difference(our_state, their_state) < TOLERANCE


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_second_half_counts_backwards(pack: bool, tmp_path: Path) -> None:
    models = both(tmp_path, bi_data=True, clamp_len=6)
    models.ours.pack = pack
    inputs = padded()
    real = inputs["attention_mask"].bool()
    theirs = models.reference(**inputs).last_hidden_state
    assert difference(models.ours(**inputs).last_hidden_state, theirs, real) < TOLERANCE
    with pytest.raises(ValueError, match="even number of texts, not of 3"):
        models.ours(inputs["input_ids"][:3])


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_causal_texts_with_padding(pack: bool, tmp_path: Path) -> None:
    """The reference takes no mask here: each text alone, without padding, is what it has to equal."""
    models = both(tmp_path, attn_type="uni")
    models.ours.pack = pack
    inputs = padded()
    states = models.ours(**inputs).last_hidden_state
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = {name: inputs[name][row : row + 1, :length] for name in ("input_ids", "token_type_ids")}
        assert difference(states[row : row + 1, :length], models.reference(**alone).last_hidden_state) < TOLERANCE


@pytest.mark.parametrize("masked", [True, False], ids=["padded", "whole"])
def test_both_streams(masked: bool, tmp_path: Path) -> None:
    """States and weights of both streams, gradients, and the first state of what is to be predicted among them."""
    models = both(tmp_path)
    # without the first token of each order: it sees nobody, and there the reference's gradients belong to scores that
    # it has rounded away
    inputs = {**(padded() if masked else text()), **random_order(of_first=False)}
    real = padded()["attention_mask"].bool() if masked else torch.ones(BATCH, LENGTH).bool()
    theirs = models.reference(**inputs, output_hidden_states=True, output_attentions=True)
    ours = models.ours(**inputs, output_hidden_states=True, output_attentions=True)
    assert ours.last_hidden_state.shape == (BATCH, 3, 32)
    assert difference(ours.last_hidden_state, theirs.last_hidden_state) < TOLERANCE
    for our_state, their_state in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        places = real if our_state.shape[1] == LENGTH else None
        assert difference(our_state, their_state, places) < TOLERANCE
    for our_pair, their_pair in zip(ours.attentions, theirs.attentions, strict=True):
        for our_weights, their_weights in zip(our_pair, their_pair, strict=True):
            # a token in front of all others sees none of them; whom its even weights fall on has no meaning
            seen = their_weights.detach().amax(-1) > 1.01 / LENGTH
            assert difference(our_weights, their_weights, seen & real[:, None]) < TOLERANCE
    if not masked:  # padding in front of a token leaves it nobody to see either
        compare_gradients(models, theirs.last_hidden_state, ours.last_hidden_state)


def compare_gradients(models: Pair, theirs: Tensor, ours: Tensor) -> None:
    """Gradients of a random projection reach the tables of tokens and the first state of predicted ones."""
    direction = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(2))
    (theirs * direction).sum().backward()
    (ours * direction).sum().backward()
    hidden = models.ours.body.embeddings.hidden.grad
    assert hidden.abs().max() > 0
    assert difference(hidden, models.reference.mask_emb.grad) < 1e-4  # they reach 100
    assert (
        difference(models.ours.body.embeddings.tokens.weight.grad, models.reference.word_embedding.weight.grad) < 1e-4
    )


def test_states_of_both_streams_with_what_is_kept(tmp_path: Path) -> None:
    models = both(tmp_path)
    theirs, ours = models.reference(**text(7, 3)).mems, models.ours(**text(7, 3)).mems
    inputs = {**text(), **random_order()}
    found = models.ours(**inputs, mems=ours).last_hidden_state
    assert difference(found, models.reference(**inputs, mems=theirs).last_hidden_state) < TOLERANCE


def test_predicted_tokens(tmp_path: Path) -> None:
    models = both(tmp_path, "causal-lm")
    inputs = {**padded(), **random_order(), "labels": torch.tensor([[3, 5, -100]] * BATCH)}
    theirs, ours = models.reference(**inputs), models.ours(**inputs)
    assert ours.logits.shape == (BATCH, 3, VOCABULARY)
    assert difference(ours.logits, theirs.logits) < TOLERANCE
    assert difference(ours.loss, theirs.loss) < TOLERANCE


@pytest.mark.parametrize("places", [True, False], ids=["told", "left_out"])
def test_searched_answers(places: bool, tmp_path: Path) -> None:
    models = both(tmp_path, "answer-search", start_n_top=4, end_n_top=3)
    more = {}
    if places:
        barred = torch.zeros(BATCH, LENGTH)
        barred[:, :2] = 1.0
        more = {"p_mask": barred, "cls_index": torch.tensor([2, 3, 0, 1])}
    theirs, ours = models.reference(**padded(), **more), models.ours(**padded(), **more)
    for name in ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index", "cls_logits"):
        assert difference(ours[name].double(), theirs[name].double()) < TOLERANCE, name
    span = {"start_positions": torch.tensor([3, 2, 2, 5]), "end_positions": torch.tensor([4, 2, 3, 6])}
    found = models.ours(**padded(), **more, **span).loss
    assert difference(found, models.reference(**padded(), **more, **span).loss) < TOLERANCE


def test_masks_of_either_kind(tmp_path: Path) -> None:
    ours = both(tmp_path).ours
    inputs = padded()
    expected = ours(**inputs).last_hidden_state
    mask = inputs.pop("attention_mask")
    assert torch.equal(ours(**inputs, input_mask=1.0 - mask).last_hidden_state, expected)
    with pytest.raises(ValueError, match="attention_mask or input_mask, not both"):
        ours(**inputs, attention_mask=mask, input_mask=1 - mask)
