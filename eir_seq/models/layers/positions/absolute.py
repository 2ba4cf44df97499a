"""Absolute position embeddings: learned tables and sinusoids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.positions.position_ids import ArangePositionIds, PositionIds


class LearnedPositions(nn.Embedding):
    """A learned vector per position id."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`count`: rows of the table from position 0 on. `offset`: rows before them."""

        count: int
        numbering: PositionIds = ArangePositionIds()
        offset: int = 0

        def build(self, size: int) -> LearnedPositions:
            """A table of vectors of width `size`."""
            return LearnedPositions(self.count, size, self.offset)

    def __init__(self, count: int, size: int, offset: int = 0) -> None:
        super().__init__(count + offset, size)
        self.offset = offset

    def rows(self, positions: Tensor) -> Tensor:
        """Position ids -> the rows of their vectors."""
        return positions + self.offset if self.offset else positions

    def forward(self, positions: Tensor) -> Tensor:
        """Position ids (...) -> (..., size)."""
        return super().forward(self.rows(positions))


class SinusoidalPositions(nn.Embedding):
    """Fixed sinusoids, sines and cosines, alternating over the channels (https://arxiv.org/abs/1706.03762, 3.5)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`count`: rows of the table."""

        count: int
        numbering: PositionIds = ArangePositionIds()

        def build(self, size: int) -> SinusoidalPositions:
            """A frozen table of vectors of width `size`."""
            return SinusoidalPositions(self.count, size)

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size)
        self.weight.requires_grad_(False)

    @staticmethod
    def sinusoids(positions: Tensor, size: int) -> Tensor:
        """(...,) positions -> (..., size): channel 2j holds sin(p / 10000^(2j/size)), channel 2j+1 the cosine."""
        channel = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device)
        angles = positions[..., None] * 10000 ** (-channel / size)
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :size].float()


class SinesThenCosines(SinusoidalPositions):
    """The same sinusoids, all sines before all cosines."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SinusoidalPositions.Config):
        """The same options."""

        def build(self, size: int) -> SinesThenCosines:
            """A frozen table of vectors of width `size`."""
            return SinesThenCosines(self.count, size)

    @staticmethod
    def sinusoids(positions: Tensor, size: int) -> Tensor:
        """(...,) positions -> (..., size): sines of the even channels' angles, then their cosines."""
        alternating = SinusoidalPositions.sinusoids(positions, size)
        return torch.cat((alternating[..., 0::2], alternating[..., 1::2]), -1)


def tensor2tensor_sinusoids(positions: Tensor, size: int) -> Tensor:
    """(...,) positions -> (..., size): sines before cosines, whose lowest frequency is exactly 1/10000.

    All of it in float32, as published weights were trained; a last odd channel is zero.
    """
    half = size // 2
    speed = torch.exp(torch.arange(half, device=positions.device).float() * -(math.log(10000) / (half - 1)))
    angles = positions[..., None].float() * speed
    return nn.functional.pad(torch.cat((angles.sin(), angles.cos()), -1), (0, size % 2))


@dataclass(frozen=True, kw_only=True)
class ComputedSinusoids:
    """Sinusoids computed for any length, without a table.

    `sinusoids`: positions (...,) and a width -> (..., width). `offset`: the first position. `blank`: the position, that
    of padding, whose vector is zero.
    """

    numbering: PositionIds = ArangePositionIds()
    sinusoids: Callable[[Tensor, int], Tensor] = SinusoidalPositions.sinusoids
    offset: int = 0
    blank: int | None = None

    def build(self, size: int) -> nn.Module:
        """A module without parameters."""
        return _ComputedSinusoids(self, size)


class _ComputedSinusoids(nn.Module):
    def __init__(self, config: ComputedSinusoids, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size

    def forward(self, positions: Tensor) -> Tensor:
        positions = positions + self.config.offset
        sinusoids = self.config.sinusoids(positions, self.size)
        return sinusoids if self.config.blank is None else sinusoids * (positions != self.config.blank)[..., None]


PositionsConfig = LearnedPositions.Config | SinusoidalPositions.Config | ComputedSinusoids
