"""Randomness that is counted, not stored.

Every random decision is a function of the seed and of what it is for (an epoch, a row, a step), so that a resumed
run draws exactly what the uninterrupted one would have drawn, and no generator state has to be saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def derive_seed(seed: int, *purpose: int | str) -> int:
    """A seed of 63 bits for one purpose, e.g. ``derive_seed(seed, "epoch", 3)``."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def derive_seeds(seed: int, *purpose: int | str, names: Iterable[str]) -> NDArray[np.int64]:
    """`derive_seed` of one purpose for each of many names, ``(names,)``.

    >>> derive_seeds(1, "split", names=["a", "b"]).tolist() == [derive_seed(1, "split", name) for name in "ab"]
    True
    """
    prefix, digest = ":".join(map(str, (seed, *purpose, ""))), hashlib.blake2b
    found = b"".join([digest(f"{prefix}{name}".encode(), digest_size=8).digest() for name in names])
    return (np.frombuffer(found, "<u8") >> np.uint64(1)).astype(np.int64)


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))


def uniforms(seed: int, rows: Sequence[int], count: int) -> NDArray[np.float64]:
    """`count` numbers from 0 to 1 for each of some rows, (rows, count); those of a row do not depend on the others.

    A counter is mixed by the last steps of splitmix64.
    """
    counter = np.asarray(rows, np.uint64)[:, None] * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
    x: NDArray[Any] = np.uint64(seed % 2**64) + counter * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: NDArray[np.float64] = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
    return uniform


@dataclass(frozen=True)
class Draw:
    """Random numbers of one pass over the rows, counted: the same row in the same epoch gets the same numbers.

    `epoch` is None outside training.
    """

    seed: int
    epoch: int | None = None

    def below(self, bound: int, *purpose: int | str) -> int:
        """An integer from 0 to ``bound - 1`` for one purpose, e.g. an input's name and a row."""
        return derive_seed(self.seed, "draw", self._when, *purpose) % bound

    def generator(self, *purpose: int | str) -> np.random.Generator:
        """A numpy generator for one purpose."""
        return generator(self.seed, "draw", self._when, *purpose)

    def uniforms(self, rows: Sequence[int], count: int, *purpose: int | str) -> NDArray[np.float64]:
        """`count` numbers from 0 to 1 for each of some rows, (rows, count), for one purpose.

        Those of a row do not depend on the other rows.
        """
        return uniforms(derive_seed(self.seed, "draw", self._when, *purpose), rows, count)

    @property
    def _when(self) -> int | str:
        return "evaluation" if self.epoch is None else self.epoch
