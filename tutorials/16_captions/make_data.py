"""Draws pairs of shapes with their captions: ``python make_data.py [ROWS]``.

`pictures/*.png` have 24 x 24 pixels. The captions of `test.csv` are none of those in `train.csv`: their combinations
are held out.
"""

from __future__ import annotations

import csv
import random
import sys
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 205, 40)}
SHAPES = ("circle", "square", "triangle")
PLACES = ("above", "left of")
SIZE, HALF = 24, 12


def draw_shape(canvas: ImageDraw.ImageDraw, shape: str, colour: str, left: int, top: int, side: int) -> None:
    box = (left, top, left + side, top + side)
    if shape == "circle":
        canvas.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        canvas.rectangle(box, fill=COLOURS[colour])
    else:
        canvas.polygon([(left, box[3]), (left + side // 2, top), (box[2], box[3])], fill=COLOURS[colour])


def draw(first: tuple[str, str], place: str, second: tuple[str, str], chance: random.Random) -> Image.Image:
    """The first shape above or left of the second, each somewhere in its half."""
    picture = Image.new("RGB", (SIZE, SIZE), (245, 245, 245))
    canvas = ImageDraw.Draw(picture)
    for half, (colour, shape) in enumerate((first, second)):
        side = chance.randint(7, 9)
        along, across = half * HALF + chance.randint(1, HALF - side - 1), chance.randint(1, SIZE - side - 2)
        left, top = (across, along) if place == "above" else (along, across)
        draw_shape(canvas, shape, colour, left, top, side)
    return picture


def main(rows: int = 4000) -> None:
    chance = random.Random(0)
    things = list(product(COLOURS, SHAPES))
    combinations = list(product(things, PLACES, things))
    chance.shuffle(combinations)
    held_out = len(combinations) // 8
    Path("pictures").mkdir(exist_ok=True)
    test = rows // 10
    for table, count, known in (
        ("train", rows - test, combinations[held_out:]),
        ("test", test, combinations[:held_out]),
    ):
        with open(f"{table}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "picture", "caption"])
            for row in range(count):
                first, place, second = chance.choice(known)
                name = f"pictures/{table}{row}.png"
                draw(first, place, second, chance).save(name)
                writer.writerow([f"{table}{row}", name, f"a {' '.join(first)} {place} a {' '.join(second)}"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
