"""Writes a made-up table of peptides: ``python make_table.py peptides.csv``.

Each row has a sequence of amino acids, how strongly it binds (`affinity`, a number), whether that is enough (`binds`,
yes or no), and the batch in which it was measured. What makes a peptide bind is simple here, so that a small model can
find it: each RGD helps, each KKP hurts, and nothing else matters.
"""

from __future__ import annotations

import csv
import random
import sys

ROWS = 1500
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def peptide(draw: random.Random) -> str:
    """12 to 48 random amino acids, among them up to three motifs of either kind."""
    letters = draw.choices(AMINO_ACIDS, k=draw.randint(12, 36))
    for motif in draw.choices(["RGD", "KKP", "GRD", "KPK"], k=draw.randint(0, 4)):
        letters.insert(draw.randint(0, len(letters)), motif)  # GRD and KPK: the same letters, without effect
    return "".join(letters)


def main(path: str) -> None:
    draw = random.Random(7)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["peptide", "batch", "sequence", "affinity", "binds"])
        for number in range(ROWS):
            sequence = peptide(draw)
            affinity = sequence.count("RGD") - sequence.count("KKP") + draw.gauss(0, 0.15)
            binds = "yes" if affinity > 0.5 else "no"
            table.writerow([f"p{number:04d}", f"b{number // 15:03d}", sequence, f"{affinity:.2f}", binds])


if __name__ == "__main__":
    main(sys.argv[1])
