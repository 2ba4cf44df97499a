"""Activation functions by their published names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.eager import is_eager
from eir_seq.models.layers.kernels import kernels
from eir_seq.models.layers.linear import Linear, linear
from eir_seq.native import activations as native
from eir_seq.native import feed_forward

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_FUNCTIONS: dict[str, Activation] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "mish": F.mish,
    "linear": nn.Identity(),
}


def _gelu_in_place(x: Tensor, approximate: str = "none") -> Tensor:
    y: Tensor = torch.ops.aten.gelu_(x, approximate=approximate)
    return y


_gelu_tanh_in_place = partial(_gelu_in_place, approximate="tanh")
_IN_PLACE: dict[str, Activation] = {
    "gelu": _gelu_in_place,
    "gelu_new": _gelu_tanh_in_place,
    "gelu_pytorch_tanh": _gelu_tanh_in_place,
    "gelu_accurate": _gelu_tanh_in_place,
    "gelu_fast": _gelu_tanh_in_place,
    "relu": torch.relu_,
    "silu": partial(F.silu, inplace=True),
    "swish": partial(F.silu, inplace=True),
    "tanh": torch.tanh_,
    "sigmoid": torch.sigmoid_,
}
"""The same bits, in the memory of the argument."""
_NATIVE = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
"""Names of the kernels."""


def activated(x: Tensor, name: str, factor: Tensor | None = None, dropout: nn.Dropout | None = None) -> Tensor:
    """dropout(f(x)), or dropout(f(x) factor), of the activation with that published name."""
    rate = _rate(dropout)
    one_pass = rate or factor is not None or name != "relu"  # torch's is as fast for a relu alone
    if one_pass and _serves(x, name, factor):
        return native.activated(x, _NATIVE[name], factor, rate)
    y = _FUNCTIONS[name](x)
    y = y if factor is None else y * factor
    return y if dropout is None else dropout(y)


def activated_product(
    layer: nn.Module, x: Tensor, name: str, factor: Tensor | None = None, dropout: nn.Dropout | None = None
) -> Tensor:
    """The same of what a linear layer gives: a kernel adds the bias on the way, and without gradients the product,
    which nothing else reads, gives its memory."""
    if not isinstance(layer, Linear) or not layer.is_bare():
        return activated(layer(x), name, factor, dropout)
    if layer.bias is not None and native.adds(layer.bias, x) and _serves(x, name, None):
        product = linear(x, layer.weight)
        if _serves(product, name, factor):
            return native.activated(product, _NATIVE[name], factor, _rate(dropout), layer.bias, owned=True)
    product = layer(x)
    plain = not torch.is_grad_enabled() and is_eager() and not _rate(dropout)
    if not plain or name not in _IN_PLACE or _serves(product, name, factor):
        return activated(product, name, factor, dropout)
    y = _IN_PLACE[name](product)
    return y if factor is None else y * factor


def block_product(
    inward: Sequence[nn.Module], down: nn.Module, x: Tensor, name: str, dropout: nn.Dropout
) -> Tensor | None:
    """down(dropout(f(up(x)))), or down(dropout(f(gate(x)) up(x))), by one kernel; None where it does not serve.

    Args:
        inward: up, or gate and up.
    """
    if torch.compiler.is_compiling() or name not in _NATIVE or not kernels().never_onednn:
        return None
    layers = [layer for layer in (*inward, down) if isinstance(layer, Linear) and layer.is_bare()]
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    if len(layers) <= len(inward) or not feed_forward.serves(x, weights, biases, _NATIVE[name]):
        return None
    return feed_forward.feed_forward(x, weights, biases, _NATIVE[name], _rate(dropout))


def _rate(dropout: nn.Dropout | None) -> float:
    return dropout.p if dropout is not None and dropout.training else 0.0


def _serves(x: Tensor, name: str, factor: Tensor | None) -> bool:
    like = factor is None or (factor.dtype is x.dtype and factor.shape == x.shape)
    return like and native.serves(x, _NATIVE.get(name, ""))


def native_name(name: str) -> str | None:
    """What the native kernels call that activation function; None if they do not know it."""
    return _NATIVE.get(name)


def activation(name: str) -> Activation:
    """The elementwise function of that published name."""
    return _FUNCTIONS[name]
