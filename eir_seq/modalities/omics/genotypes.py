"""Genotypes as codes, one byte per SNP: 0, 1 or 2 alleles (or the first three rows of an array), 3 for missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eir_seq.config.packages import is_installed
from eir_seq.errors import nearest
from eir_seq.modalities.array_files import shape_text
from eir_seq.modalities.files import is_file, locate
from eir_seq.modalities.omics.augmentation import MISSING, Codes
from eir_seq.modalities.omics.config import NEEDS_BED_READER
from eir_seq.modalities.omics.snps import Snps, lines_of, read_bim

BED = ".bed"
MAGIC = b"\x6c\x1b\x01"
"""How .bed files begin whose genotypes stand SNP by SNP."""
SAMPLES_PER_BYTE = 4
FAM_FIELDS = 6
LAYOUTS = (3, 4)
"""Rows of one-hot arrays: the fourth one says that a call is missing; without it, missing calls are all zero."""
SNPS_AT_ONCE = 1 << 20
"""Of one array that are compared at a time."""


@dataclass(frozen=True)
class Plink:
    """A .bed file with its samples and SNPs.

    Attributes:
        path: of the .bed file.
        count: of samples.
        samples: the place of each sample.
        repeated: ids that several samples have.
        snps: of the .bim file.
    """

    path: str
    count: int
    samples: Mapping[str, int]
    repeated: frozenset[str]
    snps: Snps

    def place(self, sample: str) -> int:
        """Where a sample stands; raises `ValueError` where there is none of that id, or several."""
        fam = Path(self.path).with_suffix(".fam").name
        if sample in self.repeated:
            raise ValueError(f"{fam} has several samples with that id")
        if sample not in self.samples:
            raise ValueError(f"{fam} has no sample with that id{nearest(sample, list(self.samples)[:10_000])}")
        return self.samples[sample]

    def codes(self, samples: Sequence[str], selected: Sequence[int] | None) -> Codes:
        """The codes of some samples, (samples, SNPs): how often each has the first allele of the .bim file.

        Args:
            samples: their ids.
            selected: places of SNPs; None for all.
        """
        from bed_reader import open_bed

        rows = [self.place(sample) for sample in samples]
        columns: Any = slice(None) if selected is None else np.asarray(selected)
        with open_bed(self.path, iid_count=self.count, sid_count=len(self.snps), properties={}, num_threads=1) as bed:
            found: NDArray[np.int8] = bed.read(index=(np.asarray(rows), columns), dtype="int8", order="C")
        found[found < 0] = MISSING
        return found.view(np.uint8)


def open_plink(cell: Sequence[Any]) -> Plink:
    """The PLINK files of a cell that `locate_genotypes` gave.

    Raises:
        ValueError: one of them is missing or damaged.
    """
    path, size, time, _ = cell
    return _open_plink(path, size, time)


@lru_cache(maxsize=4)
def _open_plink(path: str, size: int, time: int) -> Plink:
    del time
    if not is_installed("bed_reader"):
        raise ValueError(NEEDS_BED_READER)
    bim, fam = (Path(path).with_suffix(suffix) for suffix in (".bim", ".fam"))
    try:
        snps = read_bim(bim)
    except (OSError, ValueError) as error:
        raise ValueError(f"{bim.name} beside it cannot be read ({_reason(error)})") from None
    samples = []
    try:
        for number, line in lines_of(fam):
            if len(fields := line.split()) != FAM_FIELDS:
                raise ValueError(f"line {number} has {len(fields)} fields, not {FAM_FIELDS}")
            samples.append(fields[1])
    except (OSError, ValueError) as error:
        raise ValueError(f"{fam.name} beside it cannot be read ({_reason(error)})") from None
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it is no .bed file with the genotypes SNP by SNP")
    needed = len(MAGIC) + len(snps) * -(-len(samples) // SAMPLES_PER_BYTE)
    if size != needed:
        raise ValueError(
            f"it has {size:,} bytes, not {needed:,} for the {len(samples):,} samples of {fam.name} and the "
            f"{len(snps):,} SNPs of {bim.name}"
        )
    places = {sample: place for place, sample in enumerate(samples)}
    repeated = frozenset(sample for sample, count in Counter(samples).items() if count > 1)
    return Plink(path, len(samples), places, repeated, snps)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def locate_plink(cell: str, folder: Path, plink: str | None) -> Any:
    """``[path, bytes, time, sample]`` of a cell that names a sample of PLINK files; None where it names none.

    Args:
        cell: ``FILE.bed:SAMPLE``, or the id of a sample of `plink`.
        folder: where the data file stands.
        plink: a .bed file.

    Raises:
        ValueError: what `locate` refuses.
    """
    before, sign, sample = cell.rpartition(f"{BED}:")
    if sign:
        found = locate(before + BED, folder)
    elif plink is not None:
        path, sample = Path(plink).expanduser().absolute(), cell.strip()
        found = locate(path.name, path.parent)
    else:
        return None
    return [*found, sample] if is_file(found) else found


def is_plink(cell: Any) -> bool:
    """Whether `locate_plink` found the file of a sample."""
    return isinstance(cell, list) and len(cell) == 4 and str(cell[0]).endswith(BED)


def codes_of(array: NDArray[Any], selected: NDArray[np.int64] | None) -> Codes:
    """The codes of a one-hot array (3 or 4, SNPs).

    >>> codes_of(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]), None).tolist()
    [0, 1, 2, 3]
    """
    if selected is not None:
        array = array[:, selected]
    first, second, third = (np.asarray(row, bool) for row in array[:3])
    codes = np.full(array.shape[1], MISSING, np.uint8)
    codes[first], codes[second], codes[third] = 0, 1, 2
    return codes


def array_problem(array: NDArray[Any], count: int | None, source: str) -> str | None:
    """Why an array holds no genotypes, as the end of a sentence; None where it does.

    Args:
        array: any one.
        count: SNPs that it has to have; None where it is not known.
        source: what says so.
    """
    if array.ndim != 2 or array.shape[0] not in LAYOUTS:
        hint = "; transpose it" if array.ndim == 2 and array.shape[1] in LAYOUTS else ""
        return f"an array of {shape_text(array.shape)}; genotypes are 3 x SNPs or 4 x SNPs{hint}"
    if count is not None and array.shape[1] != count:
        return f"an array of {array.shape[1]:,} SNPs; {source} {count:,}"
    for start in range(0, array.shape[1], SNPS_AT_ONCE):
        part = np.asarray(array[:, start : start + SNPS_AT_ONCE])
        ones = part == 1
        if not (ones | (part == 0)).all():
            value = float(part[~(ones | (part == 0))][0])
            return f"an array with the value {value:g}; one-hot genotypes are 0 and 1"
        calls = ones.sum(axis=0)
        wrong = np.flatnonzero((calls > 1) if len(part) == LAYOUTS[0] else (calls != 1))
        if wrong.size:
            many = f"{calls[wrong[0]]} values of 1"
            return f"an array that is not one-hot: SNP {start + wrong[0] + 1:,} has {many}"
    return None
