"""Which part of a longer sequence is kept."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Numbers = NDArray[np.int64]
Kept = TypeVar("Kept", Ids, Numbers)
Strategy = Literal["head", "tail", "middle-out", "random", "uniform"]


def is_drawn(strategy: Strategy) -> bool:
    """Whether the kept part is redrawn, so that the whole sequence has to be stored."""
    return strategy in ("random", "uniform")


def shares(length: int, pair_length: int, budget: int) -> tuple[int, int]:
    """How many tokens of each of two texts fit into `budget` if always the longer one is shortened."""
    if length + pair_length <= budget:
        return length, pair_length
    half = budget // 2
    if length <= half:
        return length, budget - length
    if pair_length <= half:
        return budget - pair_length, pair_length
    return budget - half, half


def cut(ids: Kept, keep: int, strategy: Strategy) -> Kept:
    """`keep` tokens from the start, from the end, or from both ends with the middle taken out."""
    if len(ids) <= keep:
        return ids
    if strategy == "tail":
        return ids[len(ids) - keep :]
    if strategy == "middle-out":
        start = -(-keep // 2)
        return np.concatenate([ids[:start], ids[len(ids) - (keep - start) :]])
    return ids[:keep]


def window(ids: Kept, keep: int, start: int) -> Kept:
    """`keep` tokens from `start` on; ``0 <= start <= len(ids) - keep``."""
    return ids[start : start + keep]
