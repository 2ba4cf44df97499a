"""Scores that fall with the distance: masks with holes, texts longer than any in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.models.layers.positions.alibi import slopes
from tests.parity.cases import CASES
from tests.parity.harness import difference, inputs_of, pair


@pytest.mark.parametrize("name", ["bloom@six_heads", "mpt@six_heads"])
def test_holes_in_the_mask(name: str, tmp_path: Path) -> None:
    """Bloom does not count tokens that are masked inside a text, mpt does; packed, padded and with a cache."""
    case = next(case for case in CASES if case.name == name)
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    inputs["attention_mask"][:, 3:6] = 0
    places = inputs["attention_mask"].bool()
    expected = both.reference(**inputs).last_hidden_state
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).last_hidden_state, expected, places) < 1e-5
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        first = both.ours(ids[:, :9], mask[:, :9], use_cache=True)
        rest = both.ours(ids[:, 9:], mask, past_key_values=first.past_key_values)
    found = torch.cat((first.last_hidden_state, rest.last_hidden_state), 1)
    assert difference(found, expected, places) < 1e-5
    without = {**inputs, "attention_mask": torch.ones_like(mask)}
    assert difference(both.ours(**without).last_hidden_state, expected, places) > 0.01


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 71])
def test_slopes(heads: int) -> None:
    """All between 2^-8 and 1, each at one head only."""
    found = slopes(heads)
    assert len(set(found)) == len(found) == heads
    assert all(2**-8 <= slope < 1 for slope in found)
    assert min(found) == 2**-8


@pytest.mark.parametrize(
    ("options", "place", "reason"),
    [
        ({"attn_config": {"clip_kqv": 1.0}}, "attn_config.clip_kqv", "did you mean 'clip_qkv'"),
        ({"attn_config": {"qk_ln": True}}, "attn_config.qk_ln", "True is refused: the reference"),
        ({"attn_config": {"attn_type": "multiquery_attention"}}, "attn_config.attn_type", "is refused: the reference"),
        ({"attn_config": {"alibi": False}}, "attn_config.alibi", "False is refused: the reference implementation"),
        ({"no_bias": False}, "no_bias", "the reference implementation ignores it and computes as with True"),
        ({"embedding_fraction": 0.5}, "embedding_fraction", "0.5 is refused: the reference implementation ignores it"),
        ({"d_model": 33}, "d_model", "33 is not divisible by n_heads 16"),
    ],
)
def test_what_no_published_mpt_does_is_refused(options: dict[str, object], place: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model("mpt", options)
    assert [fault.place for fault in caught.value.faults] == [place]
    assert reason in caught.value.faults[0].message


def test_scores_of_the_head_are_scaled() -> None:
    options = {"d_model": 16, "n_heads": 2, "n_layers": 1, "vocab_size": 30}
    plain, scaled = (create_model("mpt", {**options, **more}, task="causal-lm") for more in ({}, {"logit_scale": 0.5}))
    scaled.load_state_dict(plain.state_dict())
    ids = torch.tensor([[3, 4, 5]])
    assert torch.allclose(scaled(ids).logits, plain(ids).logits * 0.5, atol=1e-6)
