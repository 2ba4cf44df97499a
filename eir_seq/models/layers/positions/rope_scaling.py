"""RoPE scaling: how rotary embeddings are adapted to longer texts, by the documented `rope_scaling`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from eir_seq.models.rope_options import LENGTH, scaling_kind


def plain_speeds(base: float | Tensor, channels: int, device: torch.device) -> Tensor:
    """(channels / 2,) radians per token, from one on downwards in a geometric series."""
    return base ** (-torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels)


class RotaryScaling(Protocol):
    """The speeds of rotations, and a factor on what is turned."""

    @property
    def gain(self) -> float:
        """Factor on cosines and sines: queries and keys grow by it, their scores by its square."""
        ...

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """(channels / 2,) radians per token; `longest`: a scalar, tokens of the longest text of this pass."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvenlySlowed:
    """All rotations are slower by a factor (https://arxiv.org/abs/2306.15595)."""

    factor: float
    gain: float = 1.0

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RotaryScaling`."""
        return plain_speeds(base, channels, longest.device) / self.factor


@dataclass(frozen=True, kw_only=True)
class SlowedByTurns:
    """Which rotations are slower is a question of how often they turn in the old length (llama 3, arXiv 2407.21783).

    Those that turn fewer than `low` times within `original_length` tokens are slower by the whole factor, those that
    turn more than `high` times not at all, and between the two the speeds are interpolated.
    """

    factor: float
    low: float
    high: float
    original_length: int
    gain: float = 1.0

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RotaryScaling`."""
        plain = plain_speeds(base, channels, longest.device)
        turns = self.original_length * plain / (2 * math.pi)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return plain * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, kw_only=True)
class GrowingBase:
    """The longer the text, the greater the base of the wave lengths (dynamic scaling, arXiv 2306.15595 and 2309.00071).

    Nothing changes up to `original_length` tokens; from there on the base grows with the longest text of a pass.
    """

    factor: float
    original_length: int
    gain: float = 1.0

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RotaryScaling`."""
        stretched = longest.clamp(min=self.original_length) / self.original_length
        growth = (self.factor * stretched - (self.factor - 1)) ** (channels / (channels - 2))
        return plain_speeds(base * growth, channels, longest.device)


@dataclass(frozen=True, kw_only=True)
class SlowedByChannel:
    """Channels that turn rarely are slower by the factor, those that turn often are not (yarn, arXiv 2309.00071).

    The ramp between the two reaches from the channel that turns `fast` times within `original_length` tokens to the
    one that turns `slow` times; with `whole` its ends are rounded to whole channels.
    """

    factor: float
    fast: float
    slow: float
    original_length: int
    whole: bool
    gain: float

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RotaryScaling`."""
        first, last = (
            channels * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))
            for turns in (self.fast, self.slow)
        )
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, channels - 1)
        channel = torch.arange(channels // 2, device=longest.device, dtype=torch.float32)
        slowed = ((channel - first) / (last - first or 0.001)).clamp(0, 1)
        plain = plain_speeds(base, channels, longest.device)
        return plain * (1 - slowed) + plain / self.factor * slowed


@dataclass(frozen=True, kw_only=True)
class SlowedByTable:
    """A factor per rotation: of one table up to `original_length` tokens, of another beyond (arXiv 2402.13753)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    gain: float

    def speeds(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RotaryScaling`."""
        short, long = (torch.tensor(factors, device=longest.device) for factors in (self.short, self.long))
        factors = torch.where(longest > self.original_length, long, short)
        return plain_speeds(base, channels, longest.device) / factors


def rotary_scaling(
    scaling: Mapping[str, Any] | None, max_positions: int, original: int | None = None
) -> RotaryScaling | None:
    """How a valid `rope_scaling` slows rotations down.

    `max_positions`: max_position_embeddings; `original`: the length of texts in the pretraining where the config
    names it beside `rope_scaling`.
    """
    kind = scaling_kind(scaling)
    if scaling is None or kind == "default":
        return None
    if kind == "linear":
        return EvenlySlowed(factor=scaling["factor"])
    if kind == "llama3":
        return SlowedByTurns(
            factor=scaling["factor"],
            low=scaling["low_freq_factor"],
            high=scaling["high_freq_factor"],
            original_length=scaling[LENGTH],
        )
    if kind == "dynamic":
        return GrowingBase(factor=scaling["factor"], original_length=max_positions)
    if kind == "yarn":
        truncate = scaling.get("truncate")
        return SlowedByChannel(
            factor=scaling["factor"],
            fast=scaling.get("beta_fast") or 32,
            slow=scaling.get("beta_slow") or 1,
            original_length=scaling.get(LENGTH) or max_positions,
            whole=truncate is None or truncate,
            gain=scaling.get("attention_factor") or _yarn_gain(scaling),
        )
    assert kind == "longrope"
    return SlowedByTable(
        short=tuple(scaling["short_factor"]),
        long=tuple(scaling["long_factor"]),
        original_length=original or max_positions,
        gain=scaling.get("attention_factor") or _longrope_gain(scaling, max_positions, original),
    )


def _yarn_gain(scaling: Mapping[str, Any]) -> float:
    def grown(by: float) -> float:
        return 1.0 if scaling["factor"] <= 1 else 0.1 * by * math.log(scaling["factor"]) + 1.0

    whole, part = scaling.get("mscale_all_dim"), scaling.get("mscale")
    return grown(part) / grown(whole) if whole and part else grown(1.0)


def _longrope_gain(scaling: Mapping[str, Any], max_positions: int, original: int | None) -> float:
    factor = max_positions / original if original else scaling["factor"]
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original or max_positions))
