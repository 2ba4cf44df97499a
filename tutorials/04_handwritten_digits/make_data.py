"""Writes the handwritten digits of scikit-learn as pictures: ``python make_data.py [ROWS]``.

`digits/*.png` have 8 x 8 gray pixels. `train.csv` has all but the last 400 of them, `test.csv` those, which other
people wrote.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TEST = 400


def main(rows: int = 1797) -> None:
    pictures, digits = load_digits(return_X_y=True)
    folder = Path("digits")
    folder.mkdir(exist_ok=True)
    cells = []
    for row in range(len(digits) - rows, len(digits)):
        name = f"{folder}/{row}.png"
        Image.fromarray((pictures[row].reshape(8, 8) * 15).astype(np.uint8)).save(name)
        cells.append((row, name, int(digits[row])))
    test = min(TEST, rows // 3)
    for path, chosen in (("train.csv", cells[:-test]), ("test.csv", cells[-test:])):
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "picture", "digit"])
            table.writerows(chosen)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
