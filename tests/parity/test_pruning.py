"""Layers without some of their heads, beside the reference implementation; through the disk in both directions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.lora import add_lora
from eir_seq.models.pruning import PRUNABLE
from tests.models.tiny import tiny
from tests.parity.cases import CASES
from tests.parity.harness import difference, inputs_of, pair, real_places

BY_NAME = {case.name: case for case in CASES}
HEADS = {0: [0, 2], 1: [3]}


@pytest.mark.parametrize("name", sorted(PRUNABLE))
def test_as_the_reference_does_it(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    both = pair(case, "base", tmp_path / "whole")
    whole = copy.deepcopy(both.ours)
    both.reference.prune_heads(HEADS)
    both.ours.prune_heads(HEADS)
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    torch.manual_seed(0)
    theirs = both.reference(**inputs).last_hidden_state
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).last_hidden_state, theirs, places) < case.tolerance
    assert difference(whole(**inputs).last_hidden_state, theirs, places) > 1e-3
    both.reference.save_pretrained(tmp_path / "theirs")
    both.ours.save_pretrained(tmp_path / "ours")
    for folder in ("theirs", "ours"):
        again = from_pretrained(tmp_path / folder)
        assert again.load_report.initialised == ()
        assert difference(again(**inputs).last_hidden_state, theirs, places) < case.tolerance
    back = type(both.reference).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert difference(back(**inputs).last_hidden_state, theirs, places) < case.tolerance


def test_step_by_step_is_all_at_once() -> None:
    """Heads go by their first numbers, whatever was taken out before."""
    model, other = tiny("bert"), tiny("bert")
    model.prune_heads({0: [0]})
    model.prune_heads({0: [2, 0], 1: [3]})
    other.prune_heads(HEADS)
    assert model.config.published == other.config.published
    assert all(torch.equal(x, other.get_parameter(name)) for name, x in model.named_parameters())


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({2: [0]}, "prune_heads.2: there is no layer 2; they are 0 to 1"),
        ({0: [4]}, "prune_heads.0: there is no head 4; they are 0 to 3"),
        ({1: [0, 1, 2, 3]}, "prune_heads.1: none of its 4 heads would be left"),
    ],
)
def test_heads_that_cannot_go(heads: dict[int, list[int]], message: str) -> None:
    model = tiny("bert")
    with pytest.raises(UserError) as caught:
        model.prune_heads({0: [1], **heads})
    assert str(caught.value) == message
    assert model.config.published == {}
    assert model.body.layers[0].mixer.query.out_features == 32  # type: ignore[union-attr,index]


def test_models_that_keep_their_heads() -> None:
    with pytest.raises(UserError, match="published classes of 't5' take no heads out"):
        tiny("t5").prune_heads({0: [1]})
    model = tiny("bert")
    add_lora(model, rank=2)
    with pytest.raises(UserError, match="merge them first"):
        model.prune_heads({0: [1]})


@pytest.mark.parametrize("entry", [3, ["0"], {"0": 1}, {"a": [1]}])
def test_entries_of_a_config_that_cannot_be(entry: Any, tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pruned_heads": entry}))
    with pytest.raises(UserError, match=r"pruned_heads: .* does not map numbers of layers"):
        from_pretrained(tmp_path)


def test_a_vocabulary_that_grows_brings_no_head_back() -> None:
    model = create_model("bert", {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4,
                                  "intermediate_size": 32})  # fmt: skip
    model.prune_heads({0: [1]})
    model.resize_token_embeddings(70)
    assert torch.isfinite(model(torch.tensor([[65, 3]])).last_hidden_state).all()
