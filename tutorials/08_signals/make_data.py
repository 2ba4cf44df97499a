"""Writes made-up signals of two sensors: ``python make_data.py [ROWS]`` writes signals/*.npy and signals.csv.

An array has two channels of 128 values: a wave of one of three shapes with noise, and the same wave later and weaker.
In a tenth of the files some values are missing (NaN). `frequency` is the number of waves in the window.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

ROWS = 1500
LENGTH = 128
SHAPES = ("sine", "square", "sawtooth")


def wave(shape: str, phase: np.ndarray) -> np.ndarray:
    """Values between -1 and 1; a phase of 1 is a whole wave."""
    match shape:
        case "sine":
            return np.sin(2 * np.pi * phase)
        case "square":
            return np.sign(np.sin(2 * np.pi * phase))
        case _:
            return 2 * (phase % 1) - 1


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(8)
    folder = Path("signals")
    folder.mkdir(exist_ok=True)
    with open("signals.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "signal", "shape", "frequency"])
        for row in range(rows):
            shape = SHAPES[row % len(SHAPES)]
            frequency = random.uniform(2, 10)
            phase = frequency * np.linspace(0, 1, LENGTH) + random.random()
            signal = np.stack([wave(shape, phase), 0.5 * wave(shape, phase - 0.1)])
            signal += random.normal(0, 0.2, signal.shape)
            if random.random() < 0.1:
                signal[random.random(signal.shape) < 0.05] = np.nan
            path = folder / f"{row}.npy"
            np.save(path, signal.astype(np.float32))
            table.writerow([f"s{row}", path, shape, f"{frequency:.3f}"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
