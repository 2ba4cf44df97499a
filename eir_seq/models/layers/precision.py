"""Precision of intermediate results."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is narrower."""
    return x if x.dtype == torch.float64 else x.float()


LEAST_EXPONENT = -80.0


def small_exp(x: Tensor) -> Tensor:
    """exp(x) of float32 or better, at least exp(-80), which vanishes beside one.

    Where results are hardly or not a float32 any more, a CPU takes up to a hundred times as long for them.
    """
    return x.clamp(min=LEAST_EXPONENT).exp()
