"""Random changes of the genotypes of training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir_seq.modalities.omics.config import OmicsAugmentationConfig
from eir_seq.randomness import Draw

Codes = NDArray[np.uint8]
MISSING = 3
"""The code of a missing call; others are the number of alleles."""


@dataclass(frozen=True)
class Augmentation:
    """Loses calls and shuffles SNPs, by random numbers that depend on seed, epoch, input and row alone.

    Args:
        name: of the input.
        config: what is done.
    """

    name: str
    config: OmicsAugmentationConfig

    def __call__(self, codes: Codes, row: int, draw: Draw) -> Codes:
        """The codes of a row, (SNPs,), as training reads them."""
        missing, shuffle = self.config.missing, self.config.shuffle
        if missing is None and shuffle is None:
            return codes
        random = draw.generator("omics", self.name, row)
        codes = codes.copy()
        if shuffle is not None:
            chosen = np.flatnonzero(random.random(len(codes)) < random.beta(shuffle.alpha, shuffle.beta))
            codes[chosen] = codes[random.permutation(chosen)]
        if missing is not None:
            lost = random.beta(missing.alpha, missing.beta)
            in_block = random.random()
            length = round(lost * in_block * len(codes))
            start = int(random.integers(len(codes) - length + 1))
            codes[start : start + length] = MISSING
            codes[random.random(len(codes)) < lost * (1 - in_block)] = MISSING
        return codes
