"""Puts the pictures of a folder together, ten in a line: ``python make_picture.py FOLDER PICTURE``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, FACTOR = 10, 3


def main(folder: str, picture: str) -> None:
    paths = sorted(Path(folder).glob("*.png"), key=lambda path: (path.stem.split("-")[1], path.stem))
    sheet = np.full((len(paths) // 10 * SIDE, 10 * SIDE), 255, np.uint8)
    for place, path in enumerate(paths):
        top, left = place // 10 * SIDE + 1, place % 10 * SIDE + 1
        with Image.open(path) as drawn:
            sheet[top : top + 8, left : left + 8] = 255 - np.asarray(drawn)
    height, width = sheet.shape
    Image.fromarray(sheet).resize((width * FACTOR, height * FACTOR), Image.Resampling.NEAREST).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
