"""Activation functions by their published names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.linear import Linear, linear
from eir_seq.native import activations as native

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
    """The same of what a linear layer gives, whose bias a kernel adds on the way."""
    if (
        isinstance(layer, Linear)
        and layer.bias is not None
        and layer.is_bare()
        and native.adds(layer.bias, x)
        and _serves(x, name, None)
    ):
        product = linear(x, layer.weight)
        if _serves(product, name, factor):
            return native.activated(product, _NATIVE[name], factor, _rate(dropout), layer.bias, owned=True)
    return activated(layer(x), name, factor, dropout)


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
