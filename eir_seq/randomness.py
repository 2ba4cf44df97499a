"""Randomness that is counted, not stored.

Every random decision is a function of the seed and of what it is for (an epoch, a row, a step), so that a resumed
run draws exactly what the uninterrupted one would have drawn, and no generator state has to be saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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
