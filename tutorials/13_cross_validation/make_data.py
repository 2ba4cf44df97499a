"""Writes a small table of made-up DNA: ``python make_data.py [ROWS]`` writes dna.csv.

`active` sequences have TTGACA, followed by TATAAT at any distance; others have one of both, or both in the other order.
`gc` is the share of G and C, and `source` the laboratory, which matter a little: active sequences have fewer of them, and
one laboratory has found more active ones.
"""

from __future__ import annotations

import csv
import random
import sys

ROWS = 500
LENGTH = 48


def main(rows: int = ROWS) -> None:
    draw = random.Random(13)
    with open("dna.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "sequence", "gc", "source", "active"])
        for row in range(rows):
            active = draw.random() < 0.5
            rich = draw.uniform(0.35, 0.6) - 0.05 * active
            letters = draw.choices("ACGT", [1 - rich, rich, rich, 1 - rich], k=LENGTH)
            motifs = ["TTGACA", "TATAAT"] if active else draw.choice([["TATAAT", "TTGACA"], ["TATAAT"], ["TTGACA"]])
            places = sorted(draw.sample(range(0, LENGTH - 6, 6), len(motifs)))
            for place, motif in zip(places, motifs, strict=True):
                letters[place : place + 6] = motif
            share = sum(letter in "CG" for letter in letters) / LENGTH
            source = draw.choices(["lab1", "lab2"], [2, 1] if active else [1, 1])[0]
            table.writerow([f"d{row}", "".join(letters), f"{share:.3f}", source, "yes" if active else "no"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
