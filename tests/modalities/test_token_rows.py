"""Tokens of many rows in one array: the same as row by row."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from eir_seq.modalities.sequence.token_rows import TokenRows, joined_rows, shares_of_rows
from eir_seq.modalities.sequence.truncation import Strategy, cut, is_drawn, shares

ROWS = [np.arange(size, dtype=np.int32) + 10 * size for size in (3, 0, 7, 1, 0, 12)]


def split(rows: TokenRows) -> list[list[int]]:
    return [rows.ids[a:b].tolist() for a, b in zip(rows.bounds[:-1], rows.bounds[1:], strict=True)]


@pytest.mark.parametrize("strategy", [name for name in get_args(Strategy) if not is_drawn(name)])
@pytest.mark.parametrize("keep", [0, 1, 4, 5, 50])
def test_cuts(strategy: Strategy, keep: int) -> None:
    expected = [cut(row, keep, strategy).tolist() for row in ROWS]
    found = joined_rows(ROWS).cut(np.full(len(ROWS), keep), strategy)
    assert split(found) == expected
    assert found.column.to_pylist() == expected


def test_cuts_of_different_lengths() -> None:
    keep = np.array([2, 5, 3, 0, 1, 20])
    for strategy in ("head", "tail", "middle-out"):
        expected = [cut(row, int(size), strategy).tolist() for row, size in zip(ROWS, keep, strict=True)]
        assert split(joined_rows(ROWS).cut(keep, strategy)) == expected


def test_shares() -> None:
    lengths, pairs = (values.ravel() for values in np.meshgrid(np.arange(9), np.arange(9)))
    for budget in range(9):
        expected = [shares(a, b, budget) for a, b in zip(lengths.tolist(), pairs.tolist(), strict=True)]
        found = shares_of_rows(lengths, pairs, budget)
        assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_counts_and_empty_rows() -> None:
    rows = joined_rows(ROWS)
    assert rows.count(71).tolist() == [0, 0, 1, 0, 0, 0]
    assert rows.count(None).tolist() == [0] * 6
    filled = rows.filled(5)
    assert split(filled) == [row.tolist() or [5] for row in ROWS]
    assert filled.filled(6) is filled
    assert split(joined_rows([]).filled(1)) == []
