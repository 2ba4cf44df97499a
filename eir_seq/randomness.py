"""Randomness that is counted, not stored.

Every random decision is a function of the seed and of what it is for (an epoch, a row, a step), so that a resumed
run draws exactly what the uninterrupted one would have drawn, and no generator state has to be saved.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: int | str) -> int:
    """A seed of 63 bits for one purpose, e.g. ``derive_seed(seed, "epoch", 3)``."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
