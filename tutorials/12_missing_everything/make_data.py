"""Writes made-up patients of whom each lacks something: ``python make_data.py [ROWS]`` writes patients.csv and
scans/.

How ill a patient is shows in the blood (a table), in the note (a text) and in the scan (a picture of 12 x 12 pixels),
and decides whether the patient is admitted and for how many days. Of each row some inputs and some targets are
missing: each with a probability of 0.3, but never all inputs or both targets.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROWS = 1500
CALM = "slept well no pain walks alone eats normally"
GRAVE = "fever cough weak dizzy breathless confused"
OTHERS = "seen today by the doctor on ward"
MISSING = 0.3


def lacking(random: np.random.Generator, parts: int) -> np.ndarray:
    """Which of the parts are missing; not all of them."""
    while (lost := random.random(parts) < MISSING).all():
        pass
    return lost


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(12)
    folder = Path("scans")
    folder.mkdir(exist_ok=True)
    with open("patients.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "sex", "crp", "pulse", "note", "scan", "admitted", "days"])
        for row in range(rows):
            ill = random.random()
            blood = [random.choice(["f", "m"]), f"{100 * ill + random.normal(0, 8):.1f}", f"{70 + 40 * ill:.0f}"]
            words = [random.choice(GRAVE.split() if random.random() < ill else CALM.split()) for _ in range(12)]
            note = " ".join(random.permutation([*words, *OTHERS.split()]))
            shadow = np.indices((12, 12)).sum(0) < 24 * ill
            pixels = 40 + 160 * shadow + random.normal(0, 15, shadow.shape)
            path = folder / f"{row}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            inputs = lacking(random, 3)
            targets = lacking(random, 2)
            cells = [[""] * 3 if inputs[0] else blood, "" if inputs[1] else note, "" if inputs[2] else path]
            admitted, days = "yes" if ill > 0.5 else "no", f"{20 * ill:.1f}"
            table.writerow(
                [f"p{row}", *cells[0], *cells[1:], "" if targets[0] else admitted, "" if targets[1] else days]
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
