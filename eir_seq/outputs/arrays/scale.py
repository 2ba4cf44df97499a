"""How targets are standardized: mean and standard deviation of the training rows, by channel or element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from eir_seq.modalities.encoders.layers.patches import Shape


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation, each (channels or 1, height or 1, width or 1).

    Example:
        >>> scale = Scale.of((2, 1, 3), [1.0, 0.0], [2.0, 1.0])
        >>> scale.standardized(torch.full((1, 2, 1, 3), 5.0))[0, :, 0, 0].tolist()
        [2.0, 5.0]
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, grid: Shape, mean: Sequence[float], deviation: Sequence[float]) -> Self:
        """Of an array of that shape, by one number, one for each channel, or one for each element."""
        shapes = {1: (1, 1, 1), grid[0]: (grid[0], 1, 1), grid[0] * grid[1] * grid[2]: grid}
        return cls(*(torch.tensor(values).reshape(shapes[len(values)]) for values in (mean, deviation)))

    def standardized(self, values: Tensor) -> Tensor:
        """Values (rows, channels, height, width) in standard deviations from the mean."""
        return (values - self.mean.to(values.device)) / self.deviation.to(values.device)

    def restored(self, values: Tensor) -> Tensor:
        """The inverse."""
        return values * self.deviation.to(values.device) + self.mean.to(values.device)
