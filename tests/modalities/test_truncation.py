from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.modalities.sequence.truncation import cut, shares, window

LENGTH = st.integers(0, 60)


@given(LENGTH, LENGTH, st.integers(2, 70))
def test_always_the_longer_text_is_shortened(length: int, pair_length: int, budget: int) -> None:
    a, b = length, pair_length
    while a + b > budget:  # the definition, token by token
        a, b = (a - 1, b) if a > b else (a, b - 1)
    assert shares(length, pair_length, budget) == (a, b)


@given(LENGTH, LENGTH)
def test_cutting_keeps_order_and_length(length: int, keep: int) -> None:
    ids = np.arange(length, dtype=np.int32)
    for strategy in ("head", "tail", "middle-out"):
        kept = cut(ids, keep, strategy)
        assert len(kept) == min(length, keep)
        assert list(kept) == sorted(kept)


@pytest.mark.parametrize(
    ("strategy", "keep", "kept"),
    [
        ("head", 4, [0, 1, 2, 3]),
        ("tail", 4, [6, 7, 8, 9]),
        ("middle-out", 4, [0, 1, 8, 9]),
        ("middle-out", 5, [0, 1, 2, 8, 9]),
        ("middle-out", 1, [0]),
        ("tail", 0, []),
        ("random", 3, [0, 1, 2]),
    ],
)
def test_what_is_kept(strategy: str, keep: int, kept: list[int]) -> None:
    assert cut(np.arange(10, dtype=np.int32), keep, strategy).tolist() == kept  # type: ignore[arg-type]


def test_the_last_window_reaches_the_end() -> None:
    ids = np.arange(10, dtype=np.int32)
    assert window(ids, 4, 6).tolist() == [6, 7, 8, 9]
    assert [window(ids, 4, start)[0] for start in range(7)] == list(range(7))
