"""Writes made-up signals of eight recorders: ``python make_data.py [ROWS]`` writes signals.csv.

A signal has 48 values, noise with a pulse that goes up or down. Every second recorder is wired the wrong way round:
what it records is upside down.
"""

from __future__ import annotations

import csv
import json
import sys

import numpy as np

ROWS = 1000
LENGTH, RECORDERS = 48, 8


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(31)
    times = np.arange(LENGTH)
    with open("signals.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "recorder", "signal", "pulse"])
        for row in range(rows):
            pulse, recorder = str(random.choice(["up", "down"])), int(random.integers(RECORDERS))
            height = (1.5 if pulse == "up" else -1.5) * (-1 if recorder % 2 else 1)
            signal = random.normal(0, 0.3, LENGTH)
            signal += height * np.exp(-(((times - random.uniform(8, 40)) / 3) ** 2))
            table.writerow([f"s{row}", f"recorder {recorder}", json.dumps(signal.round(3).tolist()), pulse])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
