"""Writes made-up genotypes of four populations: ``python make_data.py [ROWS]`` writes genotypes/*.npy, snps.bim and
people.csv.

Frequencies of alleles drift apart from those of common ancestors (Balding and Nichols 1995, with an FST of 0.05), and
a person has two alleles of each of 300 SNPs. Three calls in a hundred are missing. `trait` is a number: the sum of
the effects of ten SNPs, and chance.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

ROWS = 2000
SNPS = 300
POPULATIONS = ("north", "east", "south", "west")
FST = 0.05


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(7)
    ancestral = random.uniform(0.1, 0.9, SNPS)
    scale = (1 - FST) / FST
    frequencies = random.beta(ancestral * scale, (1 - ancestral) * scale, (len(POPULATIONS), SNPS))
    causal = np.arange(15, SNPS, 30)
    effects = random.choice([-1.0, 1.0], len(causal))
    folder = Path("genotypes")
    folder.mkdir(exist_ok=True)
    Path("snps.bim").write_text("".join(f"1\trs{snp}\t0\t{1000 * (snp + 1)}\tA\tC\n" for snp in range(SNPS)))
    with open("people.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "genotypes", "population", "trait"])
        for row in range(rows):
            population = row % len(POPULATIONS)
            alleles = random.binomial(2, frequencies[population])
            trait = effects @ alleles[causal] + random.normal(0, 0.5)
            alleles[random.random(SNPS) < 0.03] = -1
            path = folder / f"{row}.npy"
            np.save(path, (alleles == np.arange(3)[:, None]).astype(np.int8))  # a missing call is zero in all rows
            table.writerow([f"p{row}", path, POPULATIONS[population], f"{trait:.3f}"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
