"""RoPE scaling: how rotary embeddings are adapted to longer texts, by transformers' `rope_scaling`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from eir_seq.models.rope_options import LENGTH, scaling_kind


def inverse_frequencies(base: float | Tensor, channels: int, device: torch.device) -> Tensor:
    """(channels / 2,) radians per token, a geometric series from one downwards."""
    return base ** (-torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels)


class RopeScaling(Protocol):
    """The frequencies of rotary embeddings, and a factor on what they rotate."""

    @property
    def attention_factor(self) -> float:
        """Factor on cosines and sines: queries and keys grow by it, their scores by its square."""
        ...

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """(channels / 2,) radians per token; `longest`: a scalar, tokens of the longest text of this pass."""
        ...


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """All frequencies are divided by a factor: position interpolation (https://arxiv.org/abs/2306.15595)."""

    factor: float
    attention_factor: float = 1.0

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RopeScaling`."""
        return inverse_frequencies(base, channels, longest.device) / self.factor


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Low frequencies are divided by the factor, high ones are kept (llama 3, https://arxiv.org/abs/2407.21783).

    Low are those with fewer than `low` periods within `original_length` tokens, high those with more than `high`;
    between the two, frequencies are interpolated.
    """

    factor: float
    low: float
    high: float
    original_length: int
    attention_factor: float = 1.0

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RopeScaling`."""
        plain = inverse_frequencies(base, channels, longest.device)
        periods = self.original_length * plain / (2 * math.pi)
        kept = ((periods - self.low) / (self.high - self.low)).clamp(0, 1)
        return plain * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, kw_only=True)
class DynamicScaling:
    """Dynamic NTK scaling: the longer the text, the greater the base (arXiv 2306.15595 and 2309.00071).

    Nothing changes up to `original_length` tokens; from there on the base grows with the longest text of a pass.
    """

    factor: float
    original_length: int
    attention_factor: float = 1.0

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RopeScaling`."""
        stretched = longest.clamp(min=self.original_length) / self.original_length
        growth = (self.factor * stretched - (self.factor - 1)) ** (channels / (channels - 2))
        return inverse_frequencies(base * growth, channels, longest.device)


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN: low frequencies are divided by the factor, high ones are kept (https://arxiv.org/abs/2309.00071).

    The ramp between the two reaches from the channel with `fast` periods within `original_length` tokens to the one
    with `slow` periods; with `whole` its ends are rounded to whole channels.
    """

    factor: float
    fast: float
    slow: float
    original_length: int
    whole: bool
    attention_factor: float

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RopeScaling`."""
        first, last = (
            channels * math.log(self.original_length / (periods * 2 * math.pi)) / (2 * math.log(base))
            for periods in (self.fast, self.slow)
        )
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, channels - 1)
        channel = torch.arange(channels // 2, device=longest.device, dtype=torch.float32)
        interpolated = ((channel - first) / (last - first or 0.001)).clamp(0, 1)
        plain = inverse_frequencies(base, channels, longest.device)
        return plain * (1 - interpolated) + plain / self.factor * interpolated


@dataclass(frozen=True, kw_only=True)
class LongRopeScaling:
    """LongRoPE: a factor per frequency, of one table up to `original_length` tokens, of another beyond it.

    Source: https://arxiv.org/abs/2402.13753.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    attention_factor: float

    def frequencies(self, base: float, channels: int, longest: Tensor) -> Tensor:
        """See `RopeScaling`."""
        short, long = (torch.tensor(factors, device=longest.device) for factors in (self.short, self.long))
        factors = torch.where(longest > self.original_length, long, short)
        return inverse_frequencies(base, channels, longest.device) / factors


def rope_scaling_of(
    scaling: Mapping[str, Any] | None, max_positions: int, original: int | None = None
) -> RopeScaling | None:
    """The scaling that a valid `rope_scaling` describes; None where frequencies stay as they are.

    `max_positions`: max_position_embeddings; `original`: the length of texts in the pretraining where the config
    names it next to `rope_scaling`.
    """
    kind = scaling_kind(scaling)
    if scaling is None or kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(factor=scaling["factor"])
    if kind == "llama3":
        return Llama3Scaling(
            factor=scaling["factor"],
            low=scaling["low_freq_factor"],
            high=scaling["high_freq_factor"],
            original_length=scaling[LENGTH],
        )
    if kind == "dynamic":
        return DynamicScaling(factor=scaling["factor"], original_length=max_positions)
    if kind == "yarn":
        truncate = scaling.get("truncate")
        return YarnScaling(
            factor=scaling["factor"],
            fast=scaling.get("beta_fast") or 32,
            slow=scaling.get("beta_slow") or 1,
            original_length=scaling.get(LENGTH) or max_positions,
            whole=truncate is None or truncate,
            attention_factor=scaling.get("attention_factor") or _yarn_attention_factor(scaling),
        )
    assert kind == "longrope"
    return LongRopeScaling(
        short=tuple(scaling["short_factor"]),
        long=tuple(scaling["long_factor"]),
        original_length=original or max_positions,
        attention_factor=scaling.get("attention_factor")
        or _longrope_attention_factor(scaling, max_positions, original),
    )


def _yarn_attention_factor(scaling: Mapping[str, Any]) -> float:
    def grown(by: float) -> float:
        return 1.0 if scaling["factor"] <= 1 else 0.1 * by * math.log(scaling["factor"]) + 1.0

    whole, part = scaling.get("mscale_all_dim"), scaling.get("mscale")
    return grown(part) / grown(whole) if whole and part else grown(1.0)


def _longrope_attention_factor(scaling: Mapping[str, Any], max_positions: int, original: int | None) -> float:
    factor = max_positions / original if original else scaling["factor"]
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original or max_positions))
