"""Writes the handwritten digits of scikit-learn as pictures: ``python make_data.py [ROWS]``.

`digits/*.png` have 8 x 8 gray pixels. `train.csv` and `test.csv` (the last 40) name them with the digit that each
shows; `wanted.csv` has eight rows of each digit and no pictures.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TEST, WANTED = 40, 8


def write(path: str, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def main(rows: int = 1797) -> None:
    pictures, digits = load_digits(return_X_y=True)
    folder = Path("digits")
    folder.mkdir(exist_ok=True)
    cells = []
    for row in range(rows):
        name = f"{folder}/{row}.png"
        Image.fromarray((pictures[row].reshape(8, 8) * 15).astype(np.uint8)).save(name)
        cells.append((row, digits[row], name))
    test = min(TEST, rows // 3)
    write("train.csv", ["id", "digit", "picture"], cells[:-test])
    write("test.csv", ["id", "digit", "picture"], cells[-test:])
    wanted = [(f"{digit}-{number}", digit) for number in range(WANTED) for digit in range(10)]
    write("wanted.csv", ["id", "digit"], wanted)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
