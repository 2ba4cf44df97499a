"""From the documented `rope_scaling` to the rotations of a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eir_seq.models.blocks.rotary_scaling import (
    EvenlySlowed,
    GrowingBase,
    RotaryScaling,
    SlowedByChannel,
    SlowedByTable,
    SlowedByTurns,
)
from eir_seq.models.configs.rope_scaling import LENGTH, scaling_kind


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
