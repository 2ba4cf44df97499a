"""The tokens of a row are the pieces of its texts, whatever of them is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eir_seq.data.encoded import EncodedInMemory
from eir_seq.modalities.attributable import Unit
from eir_seq.modalities.sequence.attribution import TokenAttribution
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.modalities.sequence.preprocess import SequenceModality
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from tests.training.table import TINY

TEXTS = ["one two three four five six seven eight nine ten", "eight  nine,\nten", "Ünïcode déjà-vu 東京 😀 one"]


class Table(nn.Module):
    """An encoder with a table alone."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.token_table = nn.Embedding(count, 3)


def fitted(rows: dict[str, list[Any]], **options: Any) -> tuple[FittedSequence, TokenAttribution]:
    given = {"column": "text", "model": {"model_type": "bert", "model_init_config": TINY}, **options}
    found = SequenceModality("x", SequenceInputConfig.model_validate(given)).fit(Rows.of(rows), seed=0)
    attributable = found.attributable(Table(found.tokenizer.vocab_size))
    assert attributable is not None
    return found, attributable


def units(rows: dict[str, list[Any]], row: int = 0, **options: Any) -> list[Unit]:
    """Those of a row, which must be those of the tensors that the encoder gets."""
    found, attributable = fitted(rows, **options)
    cells = {name: [values[row]] for name, values in rows.items()}
    units = attributable.units(cells, row, Draw(0))
    tensors = found.collator(EncodedInMemory(found, rows), [row], Draw(0))
    ids = tensors["input_ids"][0].tolist()
    framed = found.tokenizer.tokens([ids[unit.position] for unit in units])
    assert {unit.position for unit in units} < set(range(len(ids)))
    if options.get("tokenizer") is None:  # words are their own names
        assert framed == [unit.text for unit in units]
    return units


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ("head", ["one", "two", "three", "four"]),
        ("tail", ["seven", "eight", "nine", "ten"]),
        ("middle-out", ["one", "two", "nine", "ten"]),
        ("random", ["one", "two", "three", "four"]),
    ],
)
def test_what_is_left_of_a_long_text(truncation: str, expected: list[str]) -> None:
    found = units({"text": TEXTS}, max_length=6, truncation=truncation)
    assert [unit.text for unit in found] == expected
    assert [unit.position for unit in found] == [1, 2, 3, 4]
    assert all(TEXTS[0][unit.start : unit.end] == unit.text and unit.column == "text" for unit in found)


def test_a_drawn_window_is_the_one_that_is_read() -> None:
    seen = set()
    for row in range(6):
        found = units({"text": [TEXTS[0]] * 6}, row, max_length=6, truncation="uniform")  # compared with the tensors
        seen.add(found[0].text)
    assert len(seen) > 1


@pytest.mark.parametrize("tokenizer", ["character", "byte", "bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_pieces_of_a_text_are_its_characters(tokenizer: str, row: int) -> None:
    size = {"vocab_size": 300} if tokenizer in ("bpe", "wordpiece", "unigram") else {}
    found = units({"text": TEXTS * 20}, row, tokenizer={"type": tokenizer, **size}, max_length=120)
    text = TEXTS[row]
    covered = set()
    for unit in found:
        assert unit.start is not None
        assert unit.end is not None
        assert text[unit.start : unit.end] == unit.text
        covered |= set(range(unit.start, unit.end))
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered


def test_a_pair_of_texts_and_a_text_of_several_columns() -> None:
    rows = {"text": ["one two three four five six"], "more": ["seven eight nine"]}
    found = units(rows, pair_column="more", max_length=7)
    assert [(unit.column, unit.text) for unit in found] == [
        ("text", "one"),
        ("text", "two"),
        ("more", "seven"),
        ("more", "eight"),
    ]
    assert [unit.position for unit in found] == [1, 2, 4, 5]
    assert rows["more"][0][found[2].start : found[2].end] == "seven"


def test_lists_of_words() -> None:
    rows = {"text": ['["one", "two three", "fo-ur", ""]']}
    options: dict[str, Any]
    for options in ({}, {"tokenizer": {"type": "byte"}}):
        found = units(rows, 0, is_split_into_words=True, **options)
        joined = "one two three fo-ur "
        assert all(joined[unit.start : unit.end] == unit.text for unit in found)
        assert "".join(unit.text for unit in found).replace(" ", "") == "onetwothreefo-ur"


def test_a_text_without_tokens_has_its_empty_one() -> None:
    found, attributable = fitted({"text": ["ab c", ""]}, tokenizer={"type": "byte"})
    assert found.tokenizer.num_specials() in (0, 2)
    empty = attributable.units({"text": [""]}, 1, Draw(0))
    assert [unit.text for unit in empty] == ([""] if found.tokenizer.num_specials() == 0 else [])


def test_baselines() -> None:
    found, attributable = fitted({"text": TEXTS})
    weights = attributable.table.weight
    assert isinstance(weights, torch.Tensor)
    assert torch.equal(attributable.baselines("padding", 1)[0], weights[found.tokenizer.pad_id])
    assert torch.equal(attributable.baselines("zero", 1), torch.zeros(1, 3))
    assert torch.allclose(attributable.baselines("mean", 1)[0], weights.mean(dim=0))
    tokens = attributable.baselines("tokens", 4)
    chosen = [int((weights == vector).all(dim=1).nonzero()) for vector in tokens]
    assert len(set(chosen)) == 4
    assert not set(chosen) & set(found.tokenizer.all_special_ids)
