"""Which rows of a training batch are mixed, and by which shares: counted, a function of seed, epoch and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.mixing import MixingConfig
from eir_seq.data.missing import Mask
from eir_seq.randomness import Draw


def pair_rows(config: MixingConfig, rows: Sequence[int], present: Mapping[str, Mask], draw: Draw) -> dict[str, Any]:
    """Pair the rows of a batch with others of it that have the same inputs; of an odd number, one stays alone.

    Args:
        config: how rows are mixed.
        rows: of the batch, by position in the split.
        present: which of them have an input, (batch,); of inputs that some lack.
        draw: the random numbers of this epoch.

    Returns:
        `partner`: (batch,) place in the batch of the row that each is mixed with, and that is mixed with it; `share`:
        (batch,) what the row itself has in the mixture, 1 where it stays as it is; `seed`: of what else is drawn to mix
        them; `place`: (batch,) by which that is drawn for each row.

    Example:
        >>> pairs = pair_rows(MixingConfig(alpha=1.0), [4, 7, 9, 2], {}, Draw(0, epoch=1))
        >>> partner = pairs["partner"]
        >>> partner[partner].tolist(), pairs["share"].shape
        ([0, 1, 2, 3], torch.Size([4]))
    """
    generator = draw.generator("mixing", *rows)
    share = generator.beta(config.alpha, config.alpha, len(rows))
    share[generator.random(len(rows)) >= config.probability] = 1.0
    partner: NDArray[np.int64] = np.arange(len(rows))
    patterns = np.stack([*present.values(), np.ones(len(rows), bool)], axis=1)
    alike = np.unique(patterns, axis=0, return_inverse=True)[1].reshape(-1)
    for group in np.unique(alike):
        places = generator.permutation(np.flatnonzero(alike == group))
        one, other = places[: len(places) // 2 * 2].reshape(-1, 2).T
        partner[one], partner[other] = other, one
    share[partner == np.arange(len(rows))] = 1.0
    return {
        "partner": torch.from_numpy(partner),
        "share": torch.from_numpy(share.astype(np.float32)),
        "seed": draw.below(2**62, "mixing", *rows),
        "place": torch.arange(len(rows)),
    }


def places_of(partner: Tensor, rank: int, world_size: int) -> list[int]:
    """The places in a batch of the rows that one of several processes computes: both rows of a pair, or none.

    Numbers of rows differ by two at most.

    >>> partner = torch.tensor([3, 1, 4, 0, 2])
    >>> places_of(partner, 0, 2), places_of(partner, 1, 2)
    ([0, 1, 3], [2, 4])
    """
    found, own = partner.numpy(), np.arange(len(partner))
    first, alone = np.flatnonzero(found > own)[rank::world_size], np.flatnonzero(found == own)
    lacking = int((found > own).sum()) % world_size  # from this process on, each has a pair less than those before
    alone = alone[(rank - lacking) % world_size :: world_size]
    return sorted(np.concatenate([first, found[first], alone]).tolist())


def part_of_pairs(pairs: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """`pair_rows` of some rows of a batch, among which are both of each pair."""
    own = torch.tensor(places)
    here = torch.zeros(len(pairs["partner"]), dtype=torch.int64)
    here[own] = torch.arange(len(own))
    return {
        "partner": here[pairs["partner"][own]],
        "share": pairs["share"][own],
        "seed": pairs["seed"],
        "place": pairs["place"][own],
    }
