"""Precision of intermediate results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is narrower."""
    return x if x.dtype == torch.float64 else x.float()


def for_products(x: Tensor) -> Tensor:
    """`x` as linear layers take it under autocast: what several of them read is converted once."""
    kind = x.device.type
    if x.dtype is torch.float32 and torch.is_autocast_enabled(kind):
        return x.to(torch.get_autocast_dtype(kind))
    return x


LEAST_EXPONENT = -80.0


class _SmallExp(torch.autograd.Function):
    """Keeps nothing but what it gives."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=LEAST_EXPONENT).exp_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (found,) = ctx.saved_tensors
        return gradients[0] * found


def small_exp(x: Tensor) -> Tensor:
    """exp(x) of float32 or better, at least exp(-80), which vanishes beside one.

    Where results are hardly or not a float32 any more, a CPU takes up to a hundred times as long for them.
    """
    if torch.compiler.is_compiling():
        return x.clamp(min=LEAST_EXPONENT).exp()
    found: Tensor = _SmallExp.apply(x)
    return found
