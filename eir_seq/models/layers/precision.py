"""Precision of intermediate results."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is narrower."""
    return x if x.dtype == torch.float64 else x.float()
