"""The linear layer of every block: one place to choose the fastest product that the machine has.

In float32 torch multiplies matrices with MKL. Where oneDNN, in the same wheel, is faster (see `kernels`), it is taken:
the same float32 arithmetic in another order. ``docs/speed.md`` has measurements.

oneDNN compiles a kernel for each shape that it meets, of these products, of gelu and of everything in bfloat16, and by
default it and torch's binding keep 1024 of each kind. A packed batch hardly ever has the row count of an earlier one,
so that kept kernels are of no use, and memory grows: by them, and by the holes between them that nothing else fits in.
Both caches are bounded here, unless the environment says otherwise; layers of one pass still share kernels. In bfloat16
native kernels, which suit every number of rows, are taken where they are built and the processor has AMX.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.eager import is_hooked
from eir_seq.models.layers.kernels import Kernels, kernels, onednn
from eir_seq.models.layers.lora import Lora
from eir_seq.models.layers.precision import for_products
from eir_seq.native import bf16_linear
from eir_seq.native import linear as native

KEPT_KERNELS = 32
"""Of each kind that oneDNN has: those of one pass through an encoder and a decoder fit, at two lengths not all do."""
for _capacity in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # read at the first use of oneDNN
    os.environ.setdefault(_capacity, str(KEPT_KERNELS))


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether two factors are of those that oneDNN may multiply: float32 on the CPU, of shapes that fit."""
    return (
        x.dtype is weight.dtype is torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.shape[-1] == weight.shape[1]
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(rows, in) and (out, in) -> x W^T + b by the faster kernel, without gradients: for operations with their own."""
    choice, size = kernels(), x.numel() * weight.shape[0]
    if size.bit_length() > choice.smallest and _is_plain(x, weight):
        layout = "output" if weight.is_contiguous() else "input gradient"
        layout = layout if x.is_contiguous() else "weight gradient"
        if choice.takes_onednn(layout, size, weight.shape[0]):
            return onednn(x, weight, bias)
    return F.linear(x, weight, bias)


def _takes_onednn(choice: Kernels, x: Tensor, weight: Tensor) -> bool:
    """Whether any product of a linear layer does: that of the output, or of a gradient."""
    size, (columns, width) = x.numel() * weight.shape[0], weight.shape
    return (
        size.bit_length() > choice.smallest
        and (
            choice.takes_onednn("output", size, columns)
            or choice.takes_onednn("input gradient", size, width)
            or choice.takes_onednn("weight gradient", size, width)
        )
        and _is_plain(x, weight)
    )


class _Product(torch.autograd.Function):
    """x W^T + b with gradients by the same products; they can be differentiated again."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG004
        x, weight, _ = inputs
        # each gradient needs the other factor only: a frozen weight keeps no input alive
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        flat = gradient.reshape(-1, gradient.shape[-1])
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _Product.apply(flat, weight.t(), None).unflatten(0, gradient.shape[:-1])
        if ctx.needs_input_grad[1]:
            grad_weight = _Product.apply(flat.t(), x.reshape(-1, x.shape[-1]).t(), None)
        if ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0)
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in) and (out, in) -> x W^T + b by the faster kernel, with gradients."""
    if (
        not torch.compiler.is_compiling()  # first: dynamic graphs must not depend on the requested sizes
        and _takes_onednn(kernels(), x, weight)
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
    ):
        product: Tensor = _Product.apply(x.contiguous(), weight, bias)
        return product
    if bf16_linear.serves(x, (weight,), (bias,)):
        return bf16_linear.linear(x, (weight,), (bias,))[0]
    return F.linear(x, weight, bias)


def linears(layers: Sequence[nn.Module], x: Tensor) -> Sequence[Tensor]:
    """What several linear layers, of any kind, make of the same states; a kernel computes their gradients together."""
    if torch.compiler.is_compiling():  # dynamic graphs must not depend on sizes
        x = for_products(x)
        return [layer(x) for layer in layers]
    plain = [layer for layer in layers if isinstance(layer, Linear) and layer.is_bare()]
    if len(plain) == len(layers) > 1:
        weights, biases = [layer.weight for layer in plain], [layer.bias for layer in plain]
        if bf16_linear.serves(x, weights, biases):
            return bf16_linear.linear(x, weights, biases)
        onednn = not kernels().never_onednn and any(_takes_onednn(kernels(), x, weight) for weight in weights)
        if not onednn and native.serves(x, weights, biases):
            return native.linear(x, weights, biases)
    x = for_products(x)
    return [layer(x) for layer in layers]


class Linear(nn.Linear):
    """x W^T + b, and what an adapter adds, where there is one.

    `takes_adapter`: whether one can be added; not where the weight is read in other ways.
    """

    takes_adapter = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.lora: Lora | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        product = linear(x, self.weight, self.bias)
        return product if self.lora is None else product + self.lora(x)

    def is_bare(self) -> bool:
        """Whether calling it is the same as `linear`: no adapter adds to it, no hook sees its input or output."""
        return self.lora is None and type(self) is Linear and not is_hooked(self)

    @property
    def whole_weight(self) -> Tensor:
        """(out, in): the weight and what an adapter adds to it."""
        return self.weight if self.lora is None else self.weight + self.lora.delta()
