"""Biases, activation functions, gates and dropout by the native kernels: one pass over memory each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.native import library
from eir_seq.native.norms import LANES, dropped_alike

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "relu": F.relu,
}
"""What the kernels compute, in torch's operations."""


def serves(x: Tensor, name: str) -> bool:
    """Whether the kernel computes this activation of such a tensor, here and now."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and name in PLAIN
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() % LANES == 0
        and library.available()
    )


def adds(bias: Tensor, x: Tensor) -> bool:
    """Whether a product (..., width) of float32 may leave the addition of this bias (width,) to the kernel."""
    return (
        bias.dtype is x.dtype is torch.float32
        and bias.device.type == "cpu"
        and bias.is_contiguous()
        and len(bias) % LANES == 0
        and not torch.is_autocast_enabled("cpu")
    )


def activated(
    x: Tensor,
    name: str,
    factor: Tensor | None = None,
    rate: float = 0.0,
    bias: Tensor | None = None,
    *,
    owned: bool = False,
) -> Tensor:
    """dropout(f(x + bias) factor): a multiple of 16 numbers, float32 or bfloat16; the factor is alike.

    Args:
        bias: see `adds`.
        owned: nothing else reads x, so that without gradients the result may take its memory.
    """
    x, factor = x.contiguous(), None if factor is None else factor.contiguous()
    seed = library.drawn_seed(rate)
    if not torch.is_grad_enabled():
        operations = library.operations()
        return (operations.activated_ if owned else operations.activated)(x, bias, factor, name, rate, seed)
    out: Tensor = _Activated.apply(x, bias, factor, name, rate, seed)
    return out


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, factor: Tensor | None, name: str, rate: float, seed: int
    ) -> Tensor:
        ctx.save_for_backward(x, bias, factor)
        ctx.how = name, rate, seed
        return library.operations().activated(x, bias, factor, name, rate, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, bias, factor = ctx.saved_tensors
        name, rate, seed = ctx.how
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            inputs = [tensor for tensor in (x, bias, factor) if tensor is not None and tensor.requires_grad]
            with torch.enable_grad():
                y = PLAIN[name](x if bias is None else x + bias)
                y = y if factor is None else y * factor
            above = dropped_alike(gradients[0], rate, seed)
            found = dict(zip(map(id, inputs), torch.autograd.grad(y, inputs, above, create_graph=True), strict=True))
            return found.get(id(x)), found.get(id(bias)), found.get(id(factor)), None, None, None
        grads = library.operations().activated_backward(gradients[0].contiguous(), x, bias, factor, name, rate, seed)
        return (*grads, None, None, None)
