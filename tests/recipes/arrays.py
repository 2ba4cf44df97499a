"""Arrays of zeros in which places that are ten apart hold the number of the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.recipes import MakeRow

LENGTH = 100
PLACES = range(0, LENGTH, 10)
TILES = {1: (1,), 2: (4, 1), 3: (2, 4, 1)}


def make_array(dimensions: int) -> MakeRow:
    """Arrays of 100, 4 x 100 or 2 x 4 x 100; in a tenth of them some values are missing."""

    def make(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
        k = int(random.integers(4, 11))
        array = np.zeros(LENGTH, np.float32)
        array[random.choice(PLACES, k, replace=False)] = number
        array = np.tile(array, TILES[dimensions])
        if random.random() < 0.1:
            array[random.random(array.shape) < 0.05] = np.nan
        np.save(folder / f"{name}.npy", array)
        return f"{name}.npy", k

    return make


def make_codes(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
    """Arrays of 100 classes: thirds of 0, 1 and 2, moved on by the number of the class; `k` says nothing."""
    thirds = np.repeat(np.arange(3), (33, 33, 34))
    np.save(folder / f"{name}.npy", (thirds + number) % 3)
    return f"{name}.npy", int(random.integers(4, 11))
