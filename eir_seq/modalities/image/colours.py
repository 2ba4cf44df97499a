"""Colours of pictures as tokens: every pixel is the nearest of a few colours (imagegpt)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.pictures import is_numbers

ROUNDS = 20
"""Iterations of k-means; by then centres hardly move."""


@dataclass(frozen=True)
class Colours:
    """`centres`: the colours, each a list of one value per channel, from -1 to 1."""

    centres: list[list[float]]

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8], count: int, random: np.random.Generator) -> Colours:
        """`count` colours that stand for `pixels` (number, channels), or all of them if there are no more.

        K-means from centres that are drawn apart (https://dl.acm.org/doi/10.5555/1283383.1283494).
        """
        from scipy.cluster.vq import kmeans2

        distinct = np.unique(pixels, axis=0)
        if len(distinct) <= count:
            return cls(_scaled(distinct).tolist())
        points = _scaled(pixels)
        first = points[[random.integers(len(points))]]
        nearest = ((points - first) ** 2).sum(1)
        while len(first) < count:
            drawn = points[[random.choice(len(points), p=nearest / nearest.sum())]]
            first = np.concatenate([first, drawn])
            nearest = np.minimum(nearest, ((points - drawn) ** 2).sum(1))
        centres, _ = kmeans2(points, first, iter=ROUNDS, minit="matrix")
        return cls(centres.tolist())

    @classmethod
    def published(cls, clusters: Any, channels: int, place: str) -> Colours:
        """The colours that a published model was trained with; raises `UserError` if there are none."""
        if not isinstance(clusters, list) or not clusters or not all(is_numbers(c, channels) for c in clusters):
            raise UserError(Fault(place, f"clusters are no list of colours of {channels} numbers each"))
        return cls([list(map(float, centre)) for centre in clusters])

    def __len__(self) -> int:
        return len(self.centres)

    def numbers(self, pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The number of the nearest colour of each pixel: (..., channels) -> (...)."""
        centres = np.array(self.centres)
        flat = _scaled(pixels).reshape(-1, centres.shape[1])
        distances = (centres**2).sum(1) - 2 * flat @ centres.T  # what is the same for all colours is left out
        numbers: NDArray[np.int32] = distances.argmin(1).astype(np.int32).reshape(pixels.shape[:-1])
        return numbers

    def pixels(self, numbers: NDArray[Any]) -> NDArray[np.uint8]:
        """The colours of those numbers: (...) -> (..., channels)."""
        values: NDArray[np.uint8] = np.rint((np.array(self.centres)[numbers] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return values


def _scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return pixels / 127.5 - 1
