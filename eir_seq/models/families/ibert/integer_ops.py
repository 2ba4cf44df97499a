"""Arithmetic with integers only (I-BERT, https://arxiv.org/abs/2101.01321).

A tensor of integers travels as (numbers times scale, scale). Rounding is passed over in the gradient. Where the
scale is None, the tensor is plain floating point. Ranges of activations are buffers that follow training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.linear import Linear

Scaled = tuple[Tensor, Tensor | None]
MOMENTUM = 0.95
UNSEEN = 1e-5
"""Ranges that no training has touched are this narrow."""


class _Through(torch.autograd.Function):
    """`value`, with the gradient of `x / scale`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor, scale: Tensor | None) -> Tensor:  # noqa: ARG004
        ctx.scale = scale
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        return None, gradients[0].clone() if ctx.scale is None else gradients[0] / ctx.scale, None


def floor(x: Tensor) -> Tensor:
    """The integer below, passed over in the gradient."""
    rounded: Tensor = _Through.apply(x.detach().floor(), x, None)
    return rounded


def round_(x: Tensor) -> Tensor:
    """The nearest integer, passed over in the gradient."""
    rounded: Tensor = _Through.apply(x.detach().round(), x, None)
    return rounded


def to_whole(x: Tensor, bits: int, scale: Tensor) -> Tensor:
    """Integers of that many bits for `x`; `scale` broadcasts against it."""
    largest = 2 ** (bits - 1) - 1
    with torch.no_grad():
        whole = (1.0 / scale * x).round().clamp(-largest, largest - 1)
    found: Tensor = _Through.apply(whole, x, scale)
    return found


def scale_of(low: Tensor, high: Tensor, bits: int) -> Tensor:
    """The scale by which a range fits into that many bits."""
    return torch.maximum(low.detach().abs(), high.detach().abs()).clamp(min=1e-8) / (2 ** (bits - 1) - 1)


def _rescaled(x: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Integers of `x` on another scale, by a product with a number of 31 bits and a shift, as chips do it."""
    whole = (x / scale).round().double()
    mantissa, exponent = torch.frexp(scale.double() / target.float().double())
    mantissa = mantissa.sign() * (mantissa.abs() * 2.0**31 + 0.5).floor()
    return (whole * mantissa / 2.0 ** (31.0 - exponent.double())).round()


class Requantize(nn.Module):
    """Brings an activation, or the sum of two, to that many bits by the range that training has seen."""

    def __init__(self, bits: int, whole: bool) -> None:
        super().__init__()
        self.bits, self.whole = bits, whole
        self.register_buffer("x_min", torch.full((1,), -UNSEEN))
        self.register_buffer("x_max", torch.full((1,), UNSEEN))
        self.register_buffer("act_scaling_factor", torch.zeros(1))
        self.x_min: Tensor
        self.x_max: Tensor
        self.act_scaling_factor: Tensor

    def forward(
        self, x: Tensor, scale: Tensor | None = None, other: Tensor | None = None, other_scale: Tensor | None = None
    ) -> Scaled:
        """`x` (plus `other`) on the scale of this place; as it is where nothing is whole."""
        total = x if other is None else x + other
        if self.training:
            self._follow(total.detach())
        if not self.whole:
            return total, None
        own = scale_of(self.x_min, self.x_max, self.bits)
        self.act_scaling_factor.copy_(own)
        if scale is None:
            return to_whole(total, self.bits, own) * own, own
        largest = 2 ** (self.bits - 1) - 1
        with torch.no_grad():
            whole = _rescaled(x, scale, own)
            if other is not None and other_scale is not None:
                whole = _rescaled(other, other_scale, own) + whole
            whole = whole.to(x.dtype).clamp(-largest - 1, largest)
        return _Through.apply(whole, total, own) * own, own

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = x.min().to(self.x_min.dtype), x.max().to(self.x_max.dtype)
        fresh = ((self.x_min > -1.1 * UNSEEN) & (self.x_max < 1.1 * UNSEEN)).to(low.dtype)
        for old, now in ((self.x_min, low), (self.x_max, high)):
            old.copy_(fresh * (old + now) + (1 - fresh) * (old * MOMENTUM + now * (1 - MOMENTUM)))


class QuantizedEmbedding(nn.Embedding):
    """A table of 8 bits."""

    def __init__(self, count: int, size: int, padding_id: int | None, whole: bool) -> None:
        super().__init__(count, size, padding_idx=padding_id)
        self.whole = whole
        self.register_buffer("weight_scaling_factor", torch.zeros(1))
        self.register_buffer("weight_integer", torch.zeros(count, size))
        self.weight_scaling_factor: Tensor
        self.weight_integer: Tensor

    def rows(self, ids: Tensor) -> Scaled:
        """Vectors of these ids."""
        if not self.whole:
            return self(ids), None
        scale = scale_of(self.weight.min().expand(1), self.weight.max().expand(1), 8)
        whole = to_whole(self.weight, 8, scale)
        self.weight_scaling_factor.copy_(scale)
        self.weight_integer.copy_(whole.detach())
        return F.embedding(ids, whole, self.padding_idx) * scale, scale


class QuantizedLinear(Linear):
    """A product with weights of 8 bits, of one scale per output, and a bias of 32."""

    def __init__(self, inputs: int, outputs: int, whole: bool) -> None:
        super().__init__(inputs, outputs)
        self.whole, self.takes_adapter = whole, not whole
        self.register_buffer("weight_integer", torch.zeros(outputs, inputs))
        self.register_buffer("fc_scaling_factor", torch.zeros(outputs))
        self.register_buffer("bias_integer", torch.zeros(outputs))
        self.weight_integer: Tensor
        self.fc_scaling_factor: Tensor
        self.bias_integer: Tensor

    def product(self, x: Tensor, scale: Tensor | None) -> Scaled:
        """(..., inputs) -> (..., outputs)."""
        if not self.whole:
            return self(x), None
        assert scale is not None
        own = scale_of(self.weight.amin(1), self.weight.amax(1), 8)
        weight = to_whole(self.weight, 8, own[:, None])
        result = own * scale
        bias = to_whole(self.bias, 32, result)
        for kept, now in ((self.fc_scaling_factor, own), (self.weight_integer, weight), (self.bias_integer, bias)):
            kept.copy_(now.detach())
        return F.linear(x / scale, weight, bias) * result, result


class IntegerLayerNorm(nn.Module):
    """Layer norm whose square root and division are those of integers (section 3.5)."""

    def __init__(self, size: int, eps: float, whole: bool) -> None:
        super().__init__()
        self.eps, self.whole = eps, whole
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("shift", torch.zeros(1))
        self.shift: Tensor
        self.activation = Requantize(32, whole)  # published, though nothing reads it

    def forward(self, x: Tensor, scale: Tensor | None) -> Scaled:
        """(..., size) -> (..., size)."""
        if not self.whole or scale is None:
            # spelled out: torch's own kernel rounds otherwise, which a requantization after it makes a whole step
            centred = x - x.mean(-1, keepdim=True)
            return centred / (self.eps + centred.square().mean(-1, keepdim=True)).sqrt() * self.weight + self.bias, None
        whole = x / scale
        centred = whole - round_(whole.mean(-1, keepdim=True))
        variance = self._variance(centred)
        if self.training and bool(variance.max() >= 2.0**32):
            needed = (centred.detach().square().sum(-1, keepdim=True) / 2.0**32).sqrt().log2().ceil().max()
            self.shift.copy_(torch.maximum(self.shift, needed))
            variance = self._variance(centred)
        standard_deviation = floor(variance.sqrt()) * 2.0 ** self.shift.clone()
        factor = floor(2.0**31 / standard_deviation)
        normed = floor(centred * factor / 2)
        unit = x.new_tensor(x.shape[-1]).sqrt() / 2.0**30
        shifted = normed + floor(self.bias.detach() / self.weight.detach() / unit)
        result = unit * self.weight
        return shifted * result, result

    def _variance(self, centred: Tensor) -> Tensor:
        return floor(centred / 2.0 ** self.shift.clone()).square().sum(-1, keepdim=True)


def integer_gelu(x: Tensor, scale: Tensor) -> Scaled:
    """Gelu by a polynomial of second degree in place of the error function (section 3.4)."""
    whole, narrow = x / scale, scale / 1.4142
    offset = (-1.769 / narrow).floor()
    constant = (1 / -0.2888 / narrow**2).floor()
    erf = whole.sign() * ((torch.minimum(whole.abs(), -offset) + offset) ** 2 + constant)
    erf, erf_scale = floor(erf / 2.0**14), narrow**2 * -0.2888 * 2.0**14
    result = scale * erf_scale / 2
    return whole * (erf + 1.0 // erf_scale) * result, result


class IntegerSoftmax(nn.Module):
    """Softmax whose exponential is a polynomial of second degree and a shift (section 3.4)."""

    def __init__(self, bits: int, whole: bool) -> None:
        super().__init__()
        self.bits, self.whole = bits, whole
        self.act = Requantize(16, whole)

    def forward(self, scores: Tensor, scale: Tensor | None) -> tuple[Tensor, float | None]:
        """(..., keys) -> (..., keys)."""
        if not self.whole or scale is None:
            return scores.softmax(-1), None
        whole = scores / scale
        exponentials, exp_scale = self.act(*self._exp(whole - whole.amax(-1, keepdim=True), scale.detach()))
        exponentials = exponentials / exp_scale
        factor = floor(2.0**32 / exponentials.sum(-1, keepdim=True))
        weights = floor(exponentials * factor / 2.0 ** (32 - self.bits))
        return weights / 2.0**self.bits, 1 / 2**self.bits

    @staticmethod
    def _exp(whole: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        half = (-0.6931 / scale).floor()
        whole = torch.maximum(whole, 30 * half)
        shifts = floor(whole / half)
        rest = whole - half * shifts
        a, b, c = 0.35815147, 0.96963238 / 0.35815147, 1.0 / 0.35815147
        value = (rest + (b / scale).floor()) * rest + (c / scale**2).floor()
        return floor(value * 2.0 ** (30 - shifts)).clamp(min=0), a * scale**2 / 2.0**30
