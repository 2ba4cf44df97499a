"""Rotary position embeddings (RoPE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.positions.rope_scaling import RopeScaling, inverse_frequencies


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Rotates queries and keys by their position, the halves of a head paired (https://arxiv.org/abs/2104.09864).

    `fraction`: share of a head's channels that are rotated, its first ones (the published `partial_rotary_factor`); or
    their number, as `channels`. `scaling`: changes the frequencies for longer texts.
    """

    base: float = 10000.0
    fraction: float = 1.0
    channels: int | None = None
    scaling: RopeScaling | None = None

    def tables(self, positions: Tensor, head_size: int, longest: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (..., 1, rotated channels), for position ids (...,).

        `longest`: a scalar, tokens of the longest text of this pass.
        """
        channels = self.channels or int(head_size * self.fraction)
        if self.scaling is None:
            frequencies, factor = inverse_frequencies(self.base, channels, positions.device), 1.0
        else:
            frequencies, factor = self.scaling.frequencies(self.base, channels, longest), self.scaling.attention_factor
        angles = self.paired((positions[..., None].float() * frequencies)[..., None, :])
        return angles.cos() * factor, angles.sin() * factor

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return torch.cat((angles, angles), -1)

    @staticmethod
    def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels rotated."""
        channels = cosines.shape[-1]
        first, second = x[..., : channels // 2], x[..., channels // 2 : channels]
        rotated = x[..., :channels] * cosines + torch.cat((-second, first), -1) * sines
        return torch.cat((rotated, x[..., channels:]), -1).to(x.dtype)


class InterleavedRotary(Rotary):
    """The same with neighbouring channels paired, as in gptj."""

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return angles.repeat_interleave(2, -1)

    @staticmethod
    def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels rotated."""
        channels = cosines.shape[-1]
        front = x[..., :channels]
        crossed = torch.stack((-front[..., 1::2], front[..., 0::2]), -1).flatten(-2)
        return torch.cat((front * cosines + crossed * sines, x[..., channels:]), -1).to(x.dtype)
