"""Counts written proteins that have the motif of their family and no other: ``python recognise.py PREDICTIONS``."""

from __future__ import annotations

import csv
import re
import sys

from make_data import MOTIFS, OTHERS

PATTERNS = {family: re.compile(motif.replace("x", f"[{OTHERS}]")) for family, motif in MOTIFS.items()}


def main(predictions: str, table: str = "test.csv") -> float:
    with open(table, encoding="utf-8") as file:
        families = {row["id"]: row["family"] for row in csv.DictReader(file)}
    with open("train.csv", encoding="utf-8") as file:
        known = {row["protein"] for row in csv.DictReader(file)}
    with open(predictions, encoding="utf-8") as file:
        written = {row["id"]: row["protein"] for row in csv.DictReader(file)}
    found = {row: [name for name, pattern in PATTERNS.items() if pattern.search(text)] for row, text in written.items()}
    right = [row for row, names in found.items() if names == [families[row]]]
    new = set(written.values()) - known
    print(f"{len(right)} of {len(written)} have the motif of their family, and {len(new)} are new")
    return len(right) / len(written)


if __name__ == "__main__":
    main(*sys.argv[1:])
