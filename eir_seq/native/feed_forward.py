"""Feed-forward blocks by the native kernels, as one node of the graph: inner states stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.native import library
from eir_seq.native.activations import PLAIN
from eir_seq.native.linear import takes
from eir_seq.native.norms import LANES, dropped_alike

MOST_WEIGHTS = 600_000
"""Of the layer up: with more, reading the weights for each chunk of rows costs what the passes over memory would."""
WEIGHTS_OF_ROW = 512
"""Weights of the layer up for each row, at most: few rows do not make up for the sums of several parts."""


def serves(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], name: str) -> bool:
    """Whether the kernel computes such a block of states (..., width), here and now; see `feed_forward`."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and name in PLAIN
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.dim() > 0
        and not torch.is_autocast_enabled("cpu")
        and library.available()
        and weights[0].shape[0] % LANES == 0
        and x.shape[-1] > 0
        and weights[0].numel() <= min(MOST_WEIGHTS, x.numel() // x.shape[-1] * WEIGHTS_OF_ROW)
        and all(takes(weight) for weight in weights)
        and all(bias is None or takes(bias) for bias in biases)
        and all(weight.shape[1] == x.shape[-1] for weight in weights[:-1])
    )


def feed_forward(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], name: str, rate: float
) -> Tensor:
    """down(dropout(f(up(x)))), or down(dropout(f(gate(x)) * up(x))), of (..., width); see `serves`.

    Args:
        weights, biases: those of up and down, or of gate, up and down.
    """
    x, seed = x.contiguous(), library.drawn_seed(rate)
    if not torch.is_grad_enabled():
        y: Tensor = library.operations().feed_forward_forward(x, weights, biases, name, rate, seed, False)[0]
        return y
    out: Tensor = _FeedForward.apply(x, name, rate, seed, len(weights), *weights, *biases)
    return out


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, rate: float, seed: int, count: int, *parameters: Any) -> Tensor:
        weights, biases = parameters[:count], parameters[count:]
        y, kept = library.operations().feed_forward_forward(x, weights, biases, name, rate, seed, True)
        ctx.save_for_backward(x, *parameters, *kept)
        ctx.how = name, rate, seed
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        x_wanted, _, _, _, _, *wanted = ctx.needs_input_grad
        count = len(wanted) // 2
        weights, biases, kept = saved[:count], saved[count : 2 * count], saved[2 * count :]
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            inputs = [tensor for tensor in (x, *weights, *biases) if tensor is not None and tensor.requires_grad]
            with torch.enable_grad():
                y = _plain(x, weights, biases, *ctx.how)
            found = dict(
                zip(map(id, inputs), torch.autograd.grad(y, inputs, gradients[0], create_graph=True), strict=True)
            )
            grad, *others = (found.get(id(tensor)) for tensor in (x, *weights, *biases))
            return grad, None, None, None, None, *others
        grad, weight_grads, bias_grads = library.operations().feed_forward_backward(
            gradients[0].contiguous(), x, weights, biases, kept, *ctx.how, x_wanted, wanted[:count], wanted[count:]
        )
        return grad, None, None, None, None, *weight_grads, *bias_grads


def _plain(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], name: str, rate: float, seed: int
) -> Tensor:
    """The same in torch's operations."""
    first, *factors = (F.linear(x, weight, bias) for weight, bias in zip(weights[:-1], biases[:-1], strict=True))
    state = PLAIN[name](first)
    for factor in factors:
        state = state * factor
    return F.linear(dropped_alike(state, rate, seed), weights[-1], biases[-1])
