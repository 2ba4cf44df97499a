"""Genotypes of which ten SNPs are causal: in some of them a row has the genotype of its class; the others are missing.

All other genotypes are uniform.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.recipes import MakeRow

SNPS = 1000
CAUSAL = 10


def causal(snps: int = SNPS) -> list[int]:
    """The places of the causal SNPs: 50, 150 ... of 1,000."""
    return [int(snps * (place + 0.5) / CAUSAL) for place in range(CAUSAL)]


def make_codes(number: int, random: np.random.Generator, snps: int = SNPS) -> tuple[np.ndarray, int]:
    """The codes of a row (3: missing), and in how many causal SNPs it shows its class."""
    k = int(random.integers(4, 11))
    codes = random.integers(0, 3, snps).astype(np.uint8)
    places = causal(snps)
    codes[places] = 3
    codes[random.choice(places, k, replace=False)] = number
    return codes, k


def one_hot(codes: np.ndarray, rows: int = 3) -> np.ndarray:
    """Codes (SNPs,) as (rows, SNPs); with three rows, missing calls are all zero."""
    values: np.ndarray = (codes == np.arange(rows)[:, None]).astype(np.int8)
    return values


def make_genotypes(rows: int = 3, snps: int = SNPS) -> MakeRow:
    """One-hot arrays in files."""

    def make(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
        codes, k = make_codes(number, random, snps)
        np.save(folder / f"{name}.npy", one_hot(codes, rows))
        return f"{name}.npy", k

    return make


def write_bim(path: Path, snps: int = SNPS) -> None:
    """A .bim file whose ids are rs0, rs1 ..."""
    path.write_text("".join(f"1\trs{place}\t0\t{1000 * place}\tA\tC\n" for place in range(snps)), encoding="utf-8")
