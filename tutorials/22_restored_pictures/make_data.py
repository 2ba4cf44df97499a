"""Writes pictures of shapes: ``python make_data.py [ROWS]``.

`colour/*.png` have 32 x 32 pixels: circles are red, squares green, triangles blue, each bright or dark. `gray/*.png`
are the same without colours, `small/*.png` have 8 x 8 pixels. `train.csv` and `test.csv` (a tenth) name them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE, SMALL, FINER = 32, 8, 4
"""Pixels of pictures and of small ones; pictures are drawn at FINER times the size."""
COLOURS = {"circle": (1.0, 0.15, 0.1), "square": (0.1, 0.8, 0.2), "triangle": (0.2, 0.35, 1.0)}


def picture(random: np.random.Generator) -> Image.Image:
    """Two shapes on gray."""
    side = SIZE * FINER
    image = Image.new("RGB", (side, side), (int(random.integers(30, 70)),) * 3)
    draw = ImageDraw.Draw(image)
    for left in (0.0, 0.5):
        kind = str(random.choice(list(COLOURS)))
        colour = tuple(int(random.uniform(150, 255) * share) for share in COLOURS[kind])
        radius = random.uniform(0.14, 0.22) * side
        x, y = (left + random.uniform(0.22, 0.28)) * side, random.uniform(0.25, 0.75) * side
        if kind == "circle":
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        elif kind == "square":
            draw.rectangle((x - 0.85 * radius, y - 0.85 * radius, x + 0.85 * radius, y + 0.85 * radius), fill=colour)
        else:
            corners = [(x, y - radius), (x - radius, y + 0.8 * radius), (x + radius, y + 0.8 * radius)]
            draw.polygon(corners, fill=colour)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def main(rows: int = 900) -> None:
    random = np.random.default_rng(0)
    for folder in ("colour", "gray", "small"):
        Path(folder).mkdir(exist_ok=True)
    table = []
    for row in range(rows):
        image, name = picture(random), f"p{row}"
        image.save(f"colour/{name}.png")
        image.convert("L").save(f"gray/{name}.png")
        image.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX).save(f"small/{name}.png")
        table.append((name, *(f"{folder}/{name}.png" for folder in ("small", "gray", "colour"))))
    for path, chosen in (("train.csv", table[: -rows // 10]), ("test.csv", table[-rows // 10 :])):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", "small", "gray", "colour"))
            writer.writerows(chosen)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
