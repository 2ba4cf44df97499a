"""Dropout, residual sum and norm by the native kernels, with gradients: one pass over memory each way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.native import library

LANES = 16
"""Widths are multiples of this."""


def serves(x: Tensor, update: Tensor | None = None) -> bool:
    """Whether the kernels take such states (of float32) and such an update (of float32 or bfloat16), here and now."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and x.device.type == "cpu"
        and x.dtype is torch.float32
        and x.dim() > 0
        and x.shape[-1] % LANES == 0
        and x.numel() > 0
        and (
            update is None
            or (
                update.shape == x.shape
                and update.device.type == "cpu"
                and update.dtype in (torch.float32, torch.bfloat16)
            )
        )
        and library.available()
    )


def drops(x: Tensor) -> bool:
    """Whether the kernel for dropout takes such a tensor, here and now."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() % LANES == 0
        and library.available()
    )


def takes(weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels take such parameters of a norm."""
    return all(
        x is None or (x.dtype is torch.float32 and x.device.type == "cpu" and x.is_contiguous()) for x in (weight, bias)
    )


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, centered: bool) -> Tensor:
    """Layer norm, or, not `centered`, root-mean-square norm.

    Args:
        x: (..., width), see `serves`.
        weight, bias: (width,), float32.
    """
    if not torch.is_grad_enabled():
        return library.operations().norm_forward(None, x.contiguous(), weight, bias, eps, centered, 0.0, 0)[1]
    normed: Tensor = _Norm.apply(None, x.contiguous(), weight, bias, eps, centered, 0.0, 0)
    return normed


def normed_sum(
    update: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, rate: float, *, centered: bool
) -> tuple[Tensor, Tensor]:
    """x + dropout(update), and its norm, see `norm`; the random numbers are torch's."""
    given = update.contiguous(), x.contiguous(), weight, bias, eps, centered, rate, library.drawn_seed(rate)
    if not torch.is_grad_enabled():
        return library.operations().norm_forward(*given)[:2]
    both: tuple[Tensor, Tensor] = _Norm.apply(*given)
    return both


def dropped(update: Tensor, x: Tensor | None, rate: float) -> Tensor:
    """x + dropout(update), see `serves`; or dropout(update), float32 or bfloat16, of a multiple of 16 numbers."""
    x = None if x is None else x.contiguous()
    out: Tensor = _Dropped.apply(update.contiguous(), x, rate, library.drawn_seed(rate))
    return out


def dropped_alike(x: Tensor, rate: float, seed: int) -> Tensor:
    """Dropout of the same places as another call with that seed."""
    out: Tensor = _Dropped.apply(x.contiguous(), None, rate, seed)
    return out


def plain_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, centered: bool) -> Tensor:
    """The same as `norm` in torch's operations."""
    if centered:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        update: Tensor | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        centered: bool,
        rate: float,
        seed: int,
    ) -> Tensor | tuple[Tensor, Tensor]:
        sums, normed, stats = library.operations().norm_forward(update, x, weight, bias, eps, centered, rate, seed)
        ctx.save_for_backward(x if update is None else sums, stats, weight, bias)
        ctx.set_materialize_grads(False)
        ctx.how, ctx.dtype = (eps, centered, rate, seed), None if update is None else update.dtype
        return normed if update is None else (sums, normed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        sums, stats, weight, bias = ctx.saved_tensors
        eps, centered, rate, seed = ctx.how
        above, gradient = gradients if len(gradients) == 2 else (None, gradients[0])
        unused = (None,) * 4
        if gradient is None:
            assert above is not None
            return (dropped_alike(above, rate, seed).to(ctx.dtype), above, None, None, *unused)
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            inputs = [x for x in (sums, weight, bias) if x is not None and x.requires_grad]
            with torch.enable_grad():
                normed = plain_norm(sums, weight, bias, eps, centered=centered)
            found = dict(
                zip(map(id, inputs), torch.autograd.grad(normed, inputs, gradient, create_graph=True), strict=True)
            )
            slope = found.get(id(sums))
            if above is not None:
                slope = above if slope is None else slope + above
            dropped = None
            if ctx.dtype is not None and slope is not None:
                dropped = dropped_alike(slope, rate, seed).to(ctx.dtype)
            return (dropped, slope, found.get(id(weight)), found.get(id(bias)), *unused)
        above = None if above is None else above.contiguous()
        found_grads = library.operations().norm_backward(
            gradient.contiguous(), above, sums, stats, weight, bias is not None, centered, rate, seed, ctx.dtype
        )
        return (*found_grads, *unused)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, update: Tensor, x: Tensor | None, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed, ctx.dtype = rate, seed, update.dtype
        return library.operations().dropped(update, x, rate, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        update_grad = None
        if ctx.needs_input_grad[0]:
            update_grad = dropped_alike(gradients[0], ctx.rate, ctx.seed).to(ctx.dtype)
        return update_grad, gradients[0] if ctx.needs_input_grad[1] else None, None, None
