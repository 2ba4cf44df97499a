"""Writes parts of files of five kinds: ``python make_data.py [ROWS]`` writes fragments/*.bin and fragments.csv.

A fragment is 256 bytes from somewhere in a file, without its beginning, as they are found on a damaged disk: English
text, compressed text, 32-bit floats, sound (16-bit samples), or a picture (8-bit gray pixels).
"""

from __future__ import annotations

import csv
import gzip
import random
import sys
from pathlib import Path

import numpy as np

from eir_seq.samples import sample_path

ROWS = 1500
LENGTH = 256
KINDS = ("text", "compressed", "floats", "sound", "picture")


def file_of(kind: str, text: str, random_numbers: np.random.Generator) -> bytes:
    """The bytes of a file of some thousand bytes."""
    match kind:
        case "text":
            return text.encode()
        case "compressed":
            return gzip.compress(text.encode())
        case "floats":
            return random_numbers.normal(0, random_numbers.uniform(0.1, 100), 1000).astype("<f4").tobytes()
        case "sound":
            time = np.arange(2000) * random_numbers.uniform(0.01, 0.3)
            loud = random_numbers.uniform(1000, 12000)
            return (loud * np.sin(time) + random_numbers.normal(0, 300, len(time))).astype("<i2").tobytes()
        case _:
            across, down = np.meshgrid(np.linspace(0, 3, 64), np.linspace(0, 3, 64))
            shade = 127 + 100 * np.sin(across * random_numbers.uniform(0.5, 3) + down * random_numbers.uniform(0.5, 3))
            return np.clip(shade + random_numbers.normal(0, 4, shade.shape), 0, 255).astype(np.uint8).tobytes()


def main(rows: int = ROWS) -> None:
    draw, random_numbers = random.Random(5), np.random.default_rng(5)
    with gzip.open(sample_path("reviews"), "rt", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    folder = Path("fragments")
    folder.mkdir(exist_ok=True)
    with open("fragments.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "file", "kind"])
        for row in range(rows):
            kind = KINDS[row % len(KINDS)]
            content = file_of(kind, "\n".join(draw.sample(texts, 6)), random_numbers)
            start = draw.randrange(64, len(content) - LENGTH - 8)
            path = folder / f"{row}.bin"
            path.write_bytes(content[start : start + LENGTH])
            table.writerow([f"f{row}", path, kind])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
