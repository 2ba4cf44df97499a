"""Residual sums with dropout, and the norm that follows: one place for each, so that a kernel can do it in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from eir_seq.native import norms as native

LEAST = 2**16
"""Numbers from which on torch's layer norm, which starts faster, takes longer."""


class NormTerms(NamedTuple):
    """What tells a norm over channels from others.

    `centered`: layer norm; else the root-mean-square norm.
    """

    weight: Tensor
    bias: Tensor | None
    eps: float
    centered: bool


class HasTerms(nn.Module):
    """A norm over channels, which kernels can compute."""

    def terms(self) -> NormTerms:
        """Those of this norm."""
        raise NotImplementedError


def residual_sum(x: Tensor, update: Tensor, dropout: nn.Dropout) -> Tensor:
    """x + dropout(update)."""
    rate = dropout.p if dropout.training else 0.0
    if rate and native.serves(x, update):
        return native.dropped(update, x, rate)
    return x + dropout(update)


def residual_norm(x: Tensor, update: Tensor, dropout: nn.Dropout, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """x + dropout(update), and its norm."""
    if isinstance(norm, HasTerms) and native.serves(x, update):
        weight, bias, eps, centered = norm.terms()
        rate = dropout.p if dropout.training else 0.0
        large = rate > 0 or not centered or x.numel() >= LEAST
        if large and native.takes(weight, bias):
            return native.normed_sum(update, x, weight, bias, eps, rate, centered=centered)
    total = x + dropout(update)
    normed: Any = norm(total)
    return total, normed


def native_norm(norm: HasTerms, x: Tensor) -> Tensor | None:
    """The norm by a kernel, where there is one."""
    if not native.serves(x):
        return None
    weight, bias, eps, centered = norm.terms()
    if (centered and x.numel() < LEAST) or not native.takes(weight, bias):
        return None
    return native.norm(x, weight, bias, eps, centered=centered)
