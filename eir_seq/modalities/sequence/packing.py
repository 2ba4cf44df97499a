"""Short texts together in rows of bounded length."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Which texts share a row: the longest first, each into the fullest row that has room for it (best fit).

    Rows, and the texts in each, are in the order of the texts.

    Args:
        lengths: tokens of each text.
        room: tokens of a row; a longer text has one for itself.

    Example:
        >>> pack(np.array([5, 2, 4, 3, 1]), 6)
        [[0, 4], [1, 2], [3]]
    """
    rows: list[list[int]] = []
    free: dict[int, list[int]] = {}
    """Rows by the tokens that they have room for."""
    sizes: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda number: (-int(lengths[number]), number)):
        length = int(lengths[text])
        place = bisect_left(sizes, length)
        if place == len(sizes):
            row, left = len(rows), room - length
            rows.append([text])
        else:
            size = sizes[place]
            row, left = free[size].pop(), size - length
            rows[row].append(text)
            if not free[size]:
                del free[size], sizes[place]
        if left > 0:
            if left not in free:
                free[left] = []
                insort(sizes, left)
            free[left].append(row)
    return sorted(sorted(row) for row in rows)


def sums(lengths: NDArray[np.int64], rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Tokens of each row."""
    return np.array([int(lengths[list(row)].sum()) for row in rows], np.int64)
