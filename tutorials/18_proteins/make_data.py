"""Makes up proteins of four families, each with a motif of PROSITE: ``python make_data.py [ROWS]``."""

from __future__ import annotations

import csv
import random
import sys

MOTIFS = {
    "zinc finger": "CxxCxxxxxxxxxxxxHxxxH",
    "P-loop": "GxxxxGKT",
    "leucine zipper": "LxxxxxxLxxxxxxLxxxxxxL",
    "integrin binding": "RGD",
}
"""What the sequences of a family contain; x is any residue of `OTHERS`."""
OTHERS = "ADEFINPQSTVWY"


def sequence(family: str, chance: random.Random) -> str:
    """The motif, between 2 to 8 residues on either side."""
    sides = ["".join(chance.choices(OTHERS, k=chance.randint(2, 8))) for _ in range(2)]
    motif = "".join(chance.choice(OTHERS) if residue == "x" else residue for residue in MOTIFS[family])
    return sides[0] + motif + sides[1]


def main(rows: int = 1600) -> None:
    chance = random.Random(0)
    test = rows // 10
    for table, count in (("train", rows - test), ("test", test)):
        with open(f"{table}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "family", "protein"])
            for row in range(count):
                family = chance.choice(list(MOTIFS))
                writer.writerow([f"{table}{row}", family, sequence(family, chance)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
