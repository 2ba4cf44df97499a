"""Rules of which tokens are global, from the config to the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from eir_seq.config.schema import DataConfig
from eir_seq.errors import UserError
from eir_seq.modalities.encoders.backbone import build_sequence_encoder
from tests.modalities.tensor_tables import TINY
from tests.modalities.test_tensors import collate, fit, texts

ROWS: dict[str, list[Any]] = {
    "content": ["abcd", "ab"],
    "other": ["xy", "xyz"],
    "spans": [[{"start": 1, "end": 3}], []],
}
WINDOW = {**TINY, "attention_window": 4}


def marks(rules: dict[str, Any], **options: Any) -> list[str]:
    """The global tokens of each row by their place, as a text of 1 and 0."""
    tensors = {"global_attention_mask": rules} if rules else {}
    fitted = fit(ROWS, "longformer", tensors, model_init_config=WINDOW, **options)
    return ["".join(map(str, row)) for row in collate(fitted, ROWS)["global_attention_mask"].tolist()]


def test_single_texts() -> None:
    assert marks({"first": True}) == ["100000", "100000"]
    assert marks({"every": 2}) == ["101010", "101000"]  # not at padding
    assert marks({"first": False, "question": "column"}) == ["011110", "011000"]
    assert marks({"first": False, "column": "spans"}) == ["001100", "000000"]
    assert marks({"every": 4, "column": "spans"}) == ["101110", "100000"]


def test_pairs() -> None:
    """Separators are of neither text."""
    fitted = fit(ROWS, "longformer", {}, model_init_config=WINDOW, pair_column="other")
    assert texts(fitted, collate(fitted, ROWS)) == ["CabcdSxyS", "CabSxyzS_"]
    pair = {"pair_column": "other"}
    assert marks({"question": "column"}, **pair) == ["111110000", "111000000"]
    assert marks({"first": False, "question": "pair_column"}, **pair) == ["000000110", "000011100"]


def test_truncation_leaves_some_of_a_span() -> None:
    assert marks({"first": False, "column": "spans"}, max_length=4, truncation="head") == ["0010", "0000"]
    assert marks({"first": False, "column": "spans"}, max_length=4, truncation="tail") == ["0100", "0000"]


def test_the_model_reads_the_rule() -> None:
    """Without one, the first token is global."""
    found = []
    for rules in ({}, {"first": True}, {"every": 2}):
        tensors = {"global_attention_mask": rules} if rules else {}
        fitted = fit(ROWS, "longformer", tensors, model_init_config=WINDOW)
        torch.manual_seed(0)
        encoder = build_sequence_encoder(fitted, DataConfig(train="rows.csv"), pretrained=True).eval()
        found.append(encoder(**collate(fitted, ROWS)))
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize(
    ("rules", "options", "line"),
    [
        ({"question": "pair_column"}, {}, "question: 'pair_column' is not given for this input"),
        ({"column": "spans"}, {"is_split_into_words": True}, "column: its spans are characters of a text, but "),
    ],
)
def test_rules_that_cannot_be(rules: dict[str, Any], options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        marks(rules, **options)
    assert str(caught.value.faults[0]).startswith(f"inputs.page.tensors.global_attention_mask.{line}")


def test_who_knows_no_global_tokens_refuses() -> None:
    with pytest.raises(UserError, match="global_attention_mask: 'bert' takes no such tensor"):
        fit(ROWS, "bert", {"global_attention_mask": {}})
    with pytest.raises(ValidationError, match="no token would be global"):
        marks({"first": False})


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("1-2", 'is "1-2", not a list of spans {start, end}'),
        ([{"start": 1}], 'has as span 1 {"start": 1}, not {start, end} in integers'),
        ([{"start": 0, "end": 1}, {"start": 2, "end": 9}], "has as span 2 the characters 2 to 9 of a text of 4"),
    ],
)
def test_cells_that_are_none(cell: Any, problem: str) -> None:
    from eir_seq.modalities.sequence.tensors.base import Content
    from eir_seq.modalities.sequence.tensors.global_tokens import GlobalTokens

    assert list(GlobalTokens("spans").problems(cell, Content(text="abcd"))) == [problem]
