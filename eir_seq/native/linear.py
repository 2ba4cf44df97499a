"""Linear layers that read the same states, as one node of the graph, whose gradients a kernel computes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.native import library


def serves(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> bool:
    """Whether the kernel takes such states (..., in) and weights (out, in) of float32, here and now."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and torch.is_grad_enabled()
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.dim() > 0
        and not torch.is_autocast_enabled("cpu")
        and library.available()
        and all(takes(weight) and weight.shape[-1] == x.shape[-1] for weight in weights)
        and all(bias is None or takes(bias) for bias in biases)
    )


def takes(parameter: Tensor) -> bool:
    """Whether the kernels take such a parameter: contiguous float32 on the CPU."""
    return (
        parameter.dtype is torch.float32
        and parameter.device.type == "cpu"
        and parameter.is_contiguous()
        and parameter.numel() > 0
    )


def linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """(..., in) -> x W^T + b of each layer, (..., out); see `serves`."""
    found: tuple[Tensor, ...] = _Linear.apply(x.contiguous(), len(weights), *weights, *biases)
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *parameters: Any) -> tuple[Tensor, ...]:
        weights, biases = parameters[:count], parameters[count:]
        ctx.save_for_backward(x, *weights)
        ctx.set_materialize_grads(False)
        return tuple(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        x_wanted, _, *wanted = ctx.needs_input_grad
        weights_wanted, biases_wanted = wanted[: len(weights)], wanted[len(weights) :]
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            found = derivatives(gradients, x, weights, x_wanted, weights_wanted, biases_wanted)
            return found[0], None, *found[1], *found[2]
        above = [None if gradient is None else gradient.contiguous() for gradient in gradients]
        grad, weight_grads, bias_grads = library.operations().linear_backward(
            above, x, weights, x_wanted, weights_wanted, biases_wanted
        )
        return grad, None, *weight_grads, *bias_grads


def derivatives(
    gradients: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    x_wanted: bool,
    weights_wanted: Sequence[bool],
    biases_wanted: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None]]:
    """Gradients of the states, of the weights and of the biases in torch's operations, in the states' dtype."""
    grad: Tensor | None = None
    weight_grads: list[Tensor | None] = []
    bias_grads: list[Tensor | None] = []
    for gradient, weight, *wanted in zip(gradients, weights, weights_wanted, biases_wanted, strict=True):
        flat = None if gradient is None else gradient.flatten(0, -2)
        if gradient is not None and x_wanted:
            own = gradient @ weight.to(gradient.dtype)
            grad = own if grad is None else grad + own
        weight_grads.append(flat.t() @ x.flatten(0, -2) if flat is not None and wanted[0] else None)
        bias_grads.append(flat.sum(0) if flat is not None and wanted[1] else None)
    return grad, weight_grads, bias_grads
