"""Writes a table of peptides with columns computed from their sequences: ``python add_columns.py FROM.csv TO.csv``.

The columns are the length, the net charge at neutral pH (K and R less D and E), the mean hydropathy (Kyte and Doolittle
1982), the hydrophobic moment of an alpha helix (Eisenberg et al. 1982, on the same scale), and the share of each of the
20 amino acids.
"""

from __future__ import annotations

import cmath
import csv
import math
import sys

HYDROPATHY = {
    **{"A": 1.8, "C": 2.5, "D": -3.5, "E": -3.5, "F": 2.8, "G": -0.4, "H": -3.2, "I": 4.5, "K": -3.9, "L": 3.8},
    **{"M": 1.9, "N": -3.5, "P": -1.6, "Q": -3.5, "R": -4.5, "S": -0.8, "T": -0.7, "V": 4.2, "W": -0.9, "Y": -1.3},
}
TURN = math.radians(100)
"""The angle between neighbours in an alpha helix."""


def columns(sequence: str) -> dict[str, str]:
    """The columns of one peptide."""
    length = len(sequence)
    scale = [HYDROPATHY.get(letter, 0.0) for letter in sequence]
    charge = sum(map(sequence.count, "KR")) - sum(map(sequence.count, "DE"))
    moment = abs(sum(value * cmath.exp(1j * TURN * place) for place, value in enumerate(scale))) / length
    shares = {f"share_{letter}": f"{sequence.count(letter) / length:.4f}" for letter in HYDROPATHY}
    means = {"hydropathy": f"{sum(scale) / length:.4f}", "moment": f"{moment:.4f}"}
    return {"length": str(length), "charge": str(charge), **means, **shares}


def main(source: str, target: str) -> None:
    with open(source, newline="", encoding="utf-8") as file:
        rows = [{**row, **columns(row["sequence"])} for row in csv.DictReader(file)]
    with open(target, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
