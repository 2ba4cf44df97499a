"""Grids of values cut into patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int, int]
"""Channels, height and width."""


class Patches:
    """Cuts (batch, channels, height, width) into (batch, patches, values); what lacks at the edges is zero.

    Args:
        shape: channels, height and width of what is cut.
        sides: of a patch along the last axes; it takes the whole of the others.

    Raises:
        ValueError: a patch is larger than what is cut.

    Example:
        >>> import torch
        >>> patches = Patches((1, 4, 6), [2, 3])
        >>> patches(torch.arange(24.0).reshape(1, 1, 4, 6))[0, 1].tolist()
        [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]
    """

    def __init__(self, shape: Shape, sides: Sequence[int]) -> None:
        self.sides = [*shape[: 3 - len(sides)], *sides]
        if any(side > whole for side, whole in zip(self.sides, shape, strict=True)):
            raise ValueError(
                f"patches of {' x '.join(map(str, sides))} are larger than the input, {' x '.join(map(str, shape))}"
            )
        self.counts = [math.ceil(whole / side) for side, whole in zip(self.sides, shape, strict=True)]
        self.padding = [
            end
            for side, count, whole in reversed(list(zip(self.sides, self.counts, shape, strict=True)))
            for end in (0, side * count - whole)
        ]

    @property
    def count(self) -> int:
        """Patches of a row."""
        return math.prod(self.counts)

    @property
    def size(self) -> int:
        """Values of a patch."""
        return math.prod(self.sides)

    def __call__(self, values: Tensor) -> Tensor:
        """See the class."""
        split = [length for pair in zip(self.counts, self.sides, strict=True) for length in pair]
        cut = F.pad(values, self.padding).reshape(len(values), *split)
        return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(values), self.count, self.size)
