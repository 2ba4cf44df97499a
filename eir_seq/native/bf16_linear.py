"""Linear layers in bfloat16 with sums in float32, for processors with AMX: kernels that suit every number of rows.

oneDNN compiles such products for their number of rows, which hardly ever repeats in packed batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eir_seq.native import library
from eir_seq.native.linear import derivatives

LEAST_ROWS = 32
"""For fewer ones packing the weights takes longer than the products."""


def serves(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> bool:
    """Whether the kernels take such states (..., in) and weights (out, in), here and now.

    They do where torch's products would be of bfloat16: under its autocast, or where all factors are.
    """
    if (
        not library.is_eager() or x.device.type != "cpu" or x.dim() == 0
    ):  # first: dynamic graphs must not depend on sizes
        return False
    if torch.is_autocast_enabled("cpu"):
        if torch.get_autocast_dtype("cpu") is not torch.bfloat16 or x.dtype not in _DTYPES:
            return False
    elif x.dtype is not torch.bfloat16 or not all(weight.dtype is torch.bfloat16 for weight in weights):
        return False
    width = x.shape[-1]
    return (
        width > 0
        and x.numel() >= LEAST_ROWS * width
        and all(_takes(weight) and weight.dim() == 2 and weight.shape[1] == width for weight in weights)
        and all(bias is None or _takes(bias) for bias in biases)
        and library.available()
        and library.operations().bf16_is_served()
    )


_DTYPES = (torch.float32, torch.bfloat16)


def _takes(parameter: Tensor) -> bool:
    return (
        parameter.dtype in _DTYPES
        and parameter.device.type == "cpu"
        and parameter.is_contiguous()
        and parameter.numel() > 0
    )


def linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """(..., in) -> x W^T + b of each layer, (..., out), in bfloat16; see `serves`.

    Sums are rounded once, with the bias; gradients of parameters of float32 are not rounded to bfloat16.
    """
    if not torch.is_grad_enabled():
        return tuple(library.operations().bf16_linear_forward(_half(x), weights, biases))
    found: tuple[Tensor, ...] = _Linear.apply(x, len(weights), *weights, *biases)
    return found


def _half(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).contiguous()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *parameters: Any) -> tuple[Tensor, ...]:
        weights, biases = parameters[:count], parameters[count:]
        half = _half(x)
        ctx.save_for_backward(half, *weights)
        ctx.set_materialize_grads(False)
        ctx.x_dtype, ctx.bias_dtypes = x.dtype, [None if bias is None else bias.dtype for bias in biases]
        return tuple(library.operations().bf16_linear_forward(half, weights, biases))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        x_wanted, _, *wanted = ctx.needs_input_grad
        weights_wanted, biases_wanted = wanted[: len(weights)], wanted[len(weights) :]
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            found = derivatives(gradients, x, weights, x_wanted, weights_wanted, biases_wanted)
        else:
            found = library.operations().bf16_linear_backward(
                [None if gradient is None else gradient.contiguous() for gradient in gradients],
                x, weights, ctx.x_dtype, x_wanted, weights_wanted, biases_wanted,
            )  # fmt: skip
        dtypes = [ctx.x_dtype, *(weight.dtype for weight in weights), *ctx.bias_dtypes]
        grad, *others = (
            None if one is None else one.to(dtype)
            for one, dtype in zip([found[0], *found[1], *found[2]], dtypes, strict=True)
        )
        return grad, None, *others
