"""Root-mean-square normalization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.layers.eager import gradients_with_graph, is_eager
from eir_seq.models.layers.precision import at_least_float32
from eir_seq.models.layers.residual_sum import HasTerms, NormTerms, native_norm


class RMSNorm(HasTerms):
    """Unit mean square, then scale (https://arxiv.org/abs/1910.07467)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`eps` is added to the mean square."""

        eps: float = 1e-6

        def build(self, size: int) -> RMSNorm:
            """A norm of states of width `size`."""
            return RMSNorm(size, self.eps)

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def terms(self) -> NormTerms:
        """See `NormTerms`."""
        return NormTerms(self.weight, None, self.eps, False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size); the mean square is taken in float32 or better."""
        if (found := native_norm(self, x)) is not None:
            return found
        if is_eager() and x.dtype is self.weight.dtype:
            normed: Tensor = _Normed.apply(x, self.weight, self.eps)
            return normed
        return _plain(x, self.weight, self.eps)


def _plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = at_least_float32(x)
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class _Normed(torch.autograd.Function):
    """Scaled states over their root mean square, of one dtype; keeps the states alone for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = at_least_float32(x)
        factor = _factor(wide, eps)
        ctx.save_for_backward(x, weight, factor)
        ctx.eps = eps
        return (wide * factor).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            plain = partial(_plain, eps=ctx.eps)
            return (*gradients_with_graph(plain, (x, weight), ctx.needs_input_grad[:2], gradients[0]), None)
        unit, gradient = at_least_float32(x) * factor, at_least_float32(gradients[0])
        product = gradient * unit
        to_weight = product.flatten(0, -2).sum(0).to(weight.dtype)
        share = (product @ weight.to(product.dtype)).div_(-x.shape[-1])[..., None]
        to_x = torch.mul(gradient, weight, out=product).addcmul_(unit, share).mul_(factor)
        return to_x.to(x.dtype), to_weight, None


def _factor(x: Tensor, eps: float) -> Tensor:
    """(..., size) -> (..., 1): one over the root mean square."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()


class CenteredRMSNorm(HasTerms):
    """Unit mean square, then scale by one plus a learned excess, all of it in float32 or better (gemma)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`eps` is added to the mean square."""

        eps: float = 1e-6

        def build(self, size: int) -> CenteredRMSNorm:
            """A norm of states of width `size`."""
            return CenteredRMSNorm(size, self.eps)

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.excess = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def terms(self) -> NormTerms:
        """See `NormTerms`."""
        return NormTerms(1 + self.excess, None, self.eps, False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        if (found := native_norm(self, x)) is not None:
            return found
        wide = x if x.dtype == torch.float64 else x.float()
        unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (unit * (1 + self.excess.to(wide.dtype))).to(x.dtype)
