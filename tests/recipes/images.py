"""Pictures of 16 x 16 gray pixels whose class is where a patch is, and whose height is how bright it is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tests.recipes import Tables

SIDE, PATCH = 16, 4
CORNERS = ((0, SIDE - PATCH), (SIDE - PATCH, SIDE - PATCH), (0, 0))
"""Top row and left column of the patch of each class: top right, bottom right, top left."""


def make_picture(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
    """Write the picture of a row; `k` is from 4 to 15, and k - 4 pixels of the patch are white (at 4 there is none)."""
    k = int(random.integers(4, 16))
    cells = random.choice(np.arange(4, PATCH**2), k - 4, replace=False)
    patch = np.zeros(PATCH**2, np.uint8)
    patch[cells] = 255
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    top, left = CORNERS[number]
    pixels[top : top + PATCH, left : left + PATCH] = patch.reshape(PATCH, PATCH)
    (folder / "pictures").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
    return f"pictures/{name}.png", k


def write_digits(folder: Path, test: int) -> Tables:
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels as files; the last `test` are by other writers."""
    from sklearn.datasets import load_digits

    pictures, digits = load_digits(return_X_y=True)
    rows = []
    for number, (pixels, digit) in enumerate(zip(pictures, digits, strict=True)):
        Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append((number, f"{number}.png", int(digit)))
    tables = Tables(folder / "train.csv", folder / "test.csv")
    for path, chosen in ((tables.train, rows[:-test]), (tables.test, rows[-test:])):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "picture", "digit"))
            writer.writerows(chosen)
    return tables
