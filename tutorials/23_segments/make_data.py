"""Writes signals that change their shape: ``python make_data.py [ROWS]``.

`signals/*.npy` have 96 values with noise: sine, square and sawtooth waves follow each other. `clean/*.npy` are the same
without noise, `shapes/*.npy` have the shape of each value (0 sine, 1 square, 2 sawtooth; -1 next to a change).
`train.csv` and `test.csv` (a tenth) name them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

LENGTH, SEGMENTS, EDGE = 96, 3, 2


def wave(shape: int, phase: np.ndarray) -> np.ndarray:
    if shape == 0:
        return np.sin(2 * np.pi * phase)
    return np.sign(np.sin(2 * np.pi * phase)) if shape == 1 else 2 * (phase % 1) - 1


def main(rows: int = 1500) -> None:
    random = np.random.default_rng(0)
    for folder in ("signals", "clean", "shapes"):
        Path(folder).mkdir(exist_ok=True)
    table = []
    for row in range(rows):
        ends = np.sort(random.choice(np.arange(2, 7), SEGMENTS - 1, replace=False)) * (LENGTH // 8)
        order, phase = random.permutation(3), np.arange(LENGTH) / random.uniform(10, 14) + random.random()
        segment = np.searchsorted(ends, np.arange(LENGTH), side="right")
        shapes = order[segment]
        clean = np.select([shapes == shape for shape in range(3)], [wave(shape, phase) for shape in range(3)])
        for end in ends:
            shapes[end - EDGE : end + EDGE] = -1
        np.save(f"signals/{row}.npy", (clean + random.normal(0, 0.3, LENGTH)).astype(np.float32))
        np.save(f"clean/{row}.npy", clean.astype(np.float32))
        np.save(f"shapes/{row}.npy", shapes.astype(np.int8))
        table.append((f"s{row}", *(f"{folder}/{row}.npy" for folder in ("signals", "clean", "shapes"))))
    for path, chosen in (("train.csv", table[: -rows // 10]), ("test.csv", table[-rows // 10 :])):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", "signal", "clean", "shapes"))
            writer.writerows(chosen)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
