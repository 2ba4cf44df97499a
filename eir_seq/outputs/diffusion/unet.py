"""A U-Net over one, two or three dimensions that reads a vector and a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.outputs.diffusion.config import UNetOptions

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
GROUPS = 8
"""Groups of channels that are normalised together, at most."""
SPREAD_CHANNELS, MOST_SPREAD = 4, 1 << 22
"""Channels of the map of the condition to positions, and its weights, at most: large samples get a coarser map."""


class UNet(nn.Module):
    """Predicts from a noisy sample, its noise level and a condition (Ho et al. 2020, arXiv:2006.11239, appendix B).

    Residual blocks with group norm, scaled and shifted by time and condition; each level halves the sides of the one
    before (not those of 1); self-attention at the lowest. Scales and shifts are the same everywhere, so the first
    features also have channels that are a linear map of the condition to all positions: what it says of single values
    would be slow to learn through the lowest level. Learned positions along each axis are added to the first features,
    as places of an array have meanings of their own.

    Args:
        shape: of a sample: (channels, *sides), one to three sides.
        condition_size: width of the condition.
        options: see there.
        predicted: channels of what is predicted; by default those of a sample.

    Example:
        >>> network = UNet((2, 5, 9), 3, UNetOptions(channels=8))
        >>> network(torch.zeros(4, 2, 5, 9), torch.zeros(4, dtype=torch.long), torch.zeros(4, 3)).shape
        torch.Size([4, 2, 5, 9])
    """

    def __init__(
        self, shape: Sequence[int], condition_size: int, options: UNetOptions, predicted: int | None = None
    ) -> None:
        super().__init__()
        channels, *sides = shape
        dimensions, base = len(sides), options.channels
        widths = [base * factor for factor in options.multipliers]
        strides = _strides(sides, len(widths) - 1)
        factors = [math.prod(level[axis] for level in strides) for axis in range(dimensions)]
        self.padding = [  # along the last axis first, as `F.pad` has it
            size for side, factor in reversed(list(zip(sides, factors, strict=True))) for size in (0, -side % factor)
        ]
        self.sides = list(sides)
        padded = [side + -side % factor for side, factor in zip(sides, factors, strict=True)]

        embedded = 4 * base
        self.time = nn.Sequential(SinusoidalTime(base), nn.Linear(base, embedded), nn.SiLU())
        self.embed = nn.Linear(embedded + condition_size, embedded)

        def block(read: int, given: int) -> Block:
            return Block(dimensions, read, given, embedded, options.kernel, options.dropout)

        convolution = CONVOLUTIONS[dimensions]
        self.first = convolution(channels, base, options.kernel, padding="same")
        self.positions = nn.ParameterList(
            nn.Parameter(torch.zeros(base, *(side if other == axis else 1 for other in range(dimensions))))
            for axis, side in enumerate(padded)
        )
        self.spread, self.spread_sides, wide = None, _affordable(padded, condition_size), base
        if condition_size:
            positions = math.prod(self.spread_sides)
            given = min(SPREAD_CHANNELS, max(1, MOST_SPREAD // (condition_size * positions)))
            self.spread = nn.Linear(condition_size, given * positions)
            wide += given
        skips = [wide]
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(options.blocks):
                self.down.append(block(wide, width))
                wide = width
                skips.append(wide)
            if level < len(strides):
                self.down.append(convolution(wide, wide, strides[level], strides[level]))
                skips.append(wide)
        attention = PositionAttention(wide, options.attention_heads) if options.attention_heads else nn.Identity()
        self.middle = nn.ModuleList([block(wide, wide), attention, block(wide, wide)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(options.blocks + 1):
                self.up.append(block(wide + skips.pop(), widths[level]))
                wide = widths[level]
            if level:
                self.up.append(Upsample(dimensions, wide, strides[level - 1], options.kernel))
        assert not skips
        self.last = nn.Sequential(
            _norm(wide), nn.SiLU(), _zero(convolution(wide, predicted or channels, options.kernel, padding="same"))
        )

    def forward(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """What is predicted of noisy samples, in their shape.

        Args:
            x: (batch, channels, *sides).
            times: noise levels, (batch,).
            condition: (batch, condition_size).
        """
        embedded = F.silu(self.embed(torch.cat([self.time(times), condition], dim=1)))
        x = self.first(F.pad(x, self.padding))
        for positions in self.positions:
            x = x + positions
        if self.spread is not None:
            given = self.spread(condition).unflatten(1, (-1, *self.spread_sides)).to(x.dtype)
            x = torch.cat([x, F.interpolate(given, x.shape[2:])], dim=1)
        skips = [x]
        for layer in self.down:
            x = layer(x, embedded) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedded) if isinstance(layer, Block) else layer(x)
        for layer in self.up:
            x = layer(torch.cat([x, skips.pop()], dim=1), embedded) if isinstance(layer, Block) else layer(x)
        predicted: Tensor = self.last(x)
        for axis, side in enumerate(self.sides, start=2):
            predicted = predicted.narrow(axis, 0, side)
        return predicted


class SinusoidalTime(nn.Module):
    """Sines and cosines of a noise level, (batch,) to (batch, size), in wavelengths up to 10,000 steps."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, half = size, (size + 1) // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, times: Tensor) -> Tensor:
        """Shape: (batch,) to (batch, size)."""
        angles = times[:, None].float() * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)[:, : self.size]


class Block(nn.Module):
    """Two convolutions and a shortcut; an embedding scales and shifts what the second reads."""

    def __init__(self, dimensions: int, read: int, given: int, embedded: int, kernel: int, dropout: float) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dimensions]
        self.first = nn.Sequential(_norm(read), nn.SiLU(), convolution(read, given, kernel, padding="same"))
        self.modulate = nn.Linear(embedded, 2 * given)
        self.norm = _norm(given)
        self.second = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), _zero(convolution(given, given, kernel, padding="same"))
        )
        self.shortcut = convolution(read, given, 1) if read != given else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Shape: (batch, read, *sides), (batch, embedded) to (batch, given, *sides)."""
        modulation = self.modulate(embedded)
        scale, shift = modulation.reshape(*modulation.shape, *(1,) * (x.dim() - 2)).chunk(2, dim=1)
        summed: Tensor = self.shortcut(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)
        return summed


class PositionAttention(nn.Module):
    """Self-attention among all positions, as a residual branch."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, *sides) in and out."""
        states = self.norm(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(states, states, states, need_weights=False)
        summed: Tensor = x + attended.transpose(1, 2).reshape(x.shape)
        return summed


class Upsample(nn.Module):
    """Repeats values and convolves."""

    def __init__(self, dimensions: int, channels: int, factors: tuple[int, ...], kernel: int) -> None:
        super().__init__()
        self.factors = factors
        self.convolve = CONVOLUTIONS[dimensions](channels, channels, kernel, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, *sides) to (batch, channels, *(side * factor))."""
        for axis, factor in enumerate(self.factors, start=2):
            x = x.repeat_interleave(factor, dim=axis) if factor > 1 else x
        convolved: Tensor = self.convolve(x)
        return convolved


def _strides(sides: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """How each of `count` reductions divides the sides: by 2, those of 1 by 1."""
    found, left = [], list(sides)
    for _ in range(count):
        found.append(tuple(1 if side == 1 else 2 for side in left))
        left = [math.ceil(side / 2) for side in left]
    return found


def _affordable(sides: Sequence[int], condition_size: int) -> list[int]:
    """The sides, halved until a map of the condition to all positions has at most `MOST_SPREAD` weights."""
    found = list(sides)
    while math.prod(found) * condition_size > MOST_SPREAD and math.prod(found) > 1:
        found = [math.ceil(side / 2) for side in found]
    return found


def _norm(channels: int) -> nn.GroupNorm:
    """Groups of four channels at least: a value alone in its group, at a level of one position, would become zero."""
    groups = math.gcd(GROUPS, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return nn.GroupNorm(groups, channels)


def _zero(layer: nn.Module) -> nn.Module:
    """A layer whose first output is zero: a block begins as its shortcut, the network by predicting 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
