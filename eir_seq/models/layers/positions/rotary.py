"""Rotary position embeddings (RoPE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.positions.rope_scaling import RotaryScaling, plain_speeds


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Queries and keys turned by their position, halves of the head paired (https://arxiv.org/abs/2104.09864).

    `fraction`: share of a head's channels that are turned, its first ones; or their number, as `channels`.
    `scaling`: slows them down in longer texts.
    """

    base: float = 10000.0
    fraction: float = 1.0
    channels: int | None = None
    scaling: RotaryScaling | None = None

    def tables(self, positions: Tensor, head_size: int, longest: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (..., 1, turned channels), for position ids (...,).

        `longest`: a scalar, tokens of the longest text of this pass.
        """
        turned = self.channels or int(head_size * self.fraction)
        if self.scaling is None:
            speed, gain = plain_speeds(self.base, turned, positions.device), 1.0
        else:
            speed, gain = self.scaling.speeds(self.base, turned, longest), self.scaling.gain
        angles = self.paired((positions[..., None].float() * speed)[..., None, :])
        return angles.cos() * gain, angles.sin() * gain

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return torch.cat((angles, angles), -1)

    @staticmethod
    def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels turned."""
        turned = cosines.shape[-1]
        first, second = x[..., : turned // 2], x[..., turned // 2 : turned]
        rotated = x[..., :turned] * cosines + torch.cat((-second, first), -1) * sines
        return torch.cat((rotated, x[..., turned:]), -1).to(x.dtype)


class NeighbourRotary(Rotary):
    """The same with neighbouring channels paired."""

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return angles.repeat_interleave(2, -1)

    @staticmethod
    def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels turned."""
        turned = cosines.shape[-1]
        front = x[..., :turned]
        crossed = torch.stack((-front[..., 1::2], front[..., 0::2]), -1).flatten(-2)
        return torch.cat((front * cosines + crossed * sines, x[..., turned:]), -1).to(x.dtype)
