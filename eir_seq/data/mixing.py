"""Which rows of a training batch are mixed, and by which shares: counted, a function of seed, epoch and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eir_seq.config.mixing import MixingConfig
from eir_seq.data.missing import Mask
from eir_seq.randomness import Draw


def pair_rows(config: MixingConfig, rows: Sequence[int], present: Mapping[str, Mask], draw: Draw) -> dict[str, Any]:
    """Pair each row of a batch with another one of it that has the same inputs.

    Args:
        config: how rows are mixed.
        rows: of the batch, by position in the split.
        present: which of them have an input, (batch,); of inputs that some lack.
        draw: the random numbers of this epoch.

    Returns:
        `partner`: (batch,) place in the batch of the row that each is mixed with; `share`: (batch,) what the row itself
        has in the mixture, 1 where it stays as it is; `seed`: of what else is drawn to mix them.

    Example:
        >>> pairs = pair_rows(MixingConfig(alpha=1.0), [4, 7, 9], {}, Draw(0, epoch=1))
        >>> sorted(pairs["partner"].tolist()), pairs["share"].shape
        ([0, 1, 2], torch.Size([3]))
    """
    generator = draw.generator("mixing", *rows)
    share = generator.beta(config.alpha, config.alpha, len(rows))
    share[generator.random(len(rows)) >= config.probability] = 1.0
    partner: NDArray[np.int64] = np.arange(len(rows))
    patterns = np.stack([*present.values(), np.ones(len(rows), bool)], axis=1)
    alike = np.unique(patterns, axis=0, return_inverse=True)[1].reshape(-1)
    for group in np.unique(alike):
        places = np.flatnonzero(alike == group)
        partner[places] = generator.permutation(places)
    share[partner == np.arange(len(rows))] = 1.0
    return {
        "partner": torch.from_numpy(partner),
        "share": torch.from_numpy(share.astype(np.float32)),
        "seed": draw.below(2**62, "mixing", *rows),
    }
