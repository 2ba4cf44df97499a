"""Rotary position embeddings (RoPE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.layers.eager import is_eager
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
    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., channels) -> the first and the second channels of all pairs, as views."""
        first, second = x.chunk(2, -1)
        return first, second

    @staticmethod
    def joined(first: Tensor, second: Tensor) -> Tensor:
        """The inverse of `halves`."""
        return torch.cat((first, second), -1)

    def rotate(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels rotated."""
        channels = cosines.shape[-1]
        front = x[..., :channels]
        if is_eager():
            rotated: Tensor = _Rotation.apply(front, cosines, sines, self)
        else:
            first, second = self.halves(front)
            rotated = front * cosines + self.joined(-second, first) * sines
        rotated = rotated.to(x.dtype)
        return rotated if channels == x.shape[-1] else torch.cat((rotated, x[..., channels:]), -1)


class _Rotation(torch.autograd.Function):
    """Of all channels. The gradient is rotated back; torch's own would fill a tensor with zeros for each half."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor, rotary: Rotary) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        ctx.rotary, ctx.dtype = rotary, x.dtype
        out = x * cosines
        first, second = rotary.halves(x.to(out.dtype))
        to_first, to_second = rotary.halves(out)
        sines, _ = rotary.halves(sines)
        to_first.addcmul_(second, sines, value=-1)
        to_second.addcmul_(first, sines)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        return _Rotation.apply(gradients[0], cosines, -sines, ctx.rotary).to(ctx.dtype), None, None, None


class InterleavedRotary(Rotary):
    """The same with neighbouring channels paired, as in gptj."""

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return angles.repeat_interleave(2, -1)

    @staticmethod
    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rotary`."""
        return x[..., 0::2], x[..., 1::2]

    @staticmethod
    def joined(first: Tensor, second: Tensor) -> Tensor:
        """See `Rotary`."""
        return torch.stack((first, second), -1).flatten(-2)
