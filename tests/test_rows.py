"""Rows of a table as Python values."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from eir_seq import rows as module
from eir_seq.rows import Rows, Texts


def test_texts_are_a_sequence() -> None:
    values = ["a", "b", "", "d", "e"]
    texts = Texts(pa.chunked_array([values[:2], [], values[2:]], pa.string()))
    assert list(texts) == values == texts[:]
    assert [texts[row] for row in range(-5, 5)] == values + values
    assert texts[1:4] == values[1:4]
    assert texts == values
    assert texts != values[:4]
    assert texts != [*values[:4], "x"]
    assert texts == pickle.loads(pickle.dumps(texts))  # loader processes get them
    with pytest.raises(IndexError):
        texts[5]
    assert list(Texts(pa.chunked_array([], pa.string()))) == []


def test_equal_texts_of_a_column_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED", 3)
    parts = [["good one", None, "bad one"], ["good one", "bad one"], ["other", "two words"], ["two words"]]
    column = pa.chunked_array(parts, pa.string())
    found = Rows(pa.table({"class": column}))["class"]
    assert found == column.to_pylist()
    assert found[0] is found[3]
    assert found[6] is not found[7]  # by then there were too many
