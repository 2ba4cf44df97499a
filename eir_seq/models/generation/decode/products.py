"""Products with a weight for the few rows of a step, which cost as much as reading the weight once.

MKL reads it faster row by row, as it is, for up to three rows; from four rows on it needs the transposed weight to do
so, in (in, out) order. So steps with more rows use transposed copies, which live as long as the texts grow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.generation.decode.copies import Copies
from eir_seq.models.layers.kernels import kernels
from eir_seq.models.layers.linear import Linear, linear

FEWEST_ROWS, MOST_ROWS = 4, 128
"""Rows between which a transposed weight is faster, where MKL is fast; where it is slow, also for fewer rows."""
COPIED = 2**30
"""Bytes of weights that one call of `generate` copies at most."""
WORTH = 8
"""Steps after which copies of all weights have paid for themselves."""


class Few:
    """What the products of the steps of one call have in common.

    Attributes:
        began: whether a step is computed, and not a prompt.
        transposes: whether transposed weights are worth their copies.
        left: bytes that may still be copied.
    """

    def __init__(self, *, transposes: bool) -> None:
        self.began, self.transposes, self.left = False, transposes, COPIED

    def copies(self, size: int) -> bool:
        """Whether `size` bytes may be copied; they are counted then."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Joined:
    """Linear layers of one input as one product: x [W_1; W_2; ...]^T + [b_1; b_2; ...], of the rows of a step."""

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor | None]], few: Few) -> None:
        """`parts`: weight (out, in) and bias (out) of each layer."""
        self.parts, self.few = parts, few
        self._rows = -1
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._by_column: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., sum of out)."""
        rows = x.numel() // x.shape[-1]
        if rows != self._rows:
            self._prepare(rows)
        if self._weight is not None:
            return F.linear(x, self._weight, self._bias)
        return self._apart(x)

    def _apart(self, x: Tensor) -> Tensor:
        return torch.cat([F.linear(x, *part) for part in self.parts], -1)

    def of_rows(self, rows: int) -> Callable[[Tensor], Tensor]:
        """The same for (rows, in), with fewer calls."""
        self._prepare(rows)
        if self._weight is None:
            return self._apart
        by_column, bias = self._weight.t(), self._bias
        if bias is None:
            return lambda x: torch.mm(x, by_column)
        return lambda x: torch.addmm(bias, x, by_column)

    def _prepare(self, rows: int) -> None:
        """Have the weight in the form that is best for so many rows."""
        weights, biases = [weight.detach() for weight, _ in self.parts], [bias for _, bias in self.parts]
        if len(weights) == 1 or all(bias is None for bias in biases):
            self._bias = biases[0]
        elif self._bias is None:
            pairs = zip(weights, biases, strict=True)
            self._bias = torch.cat([weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in pairs])
        copied = sum(weight.numel() * weight.element_size() for weight in weights)
        gains = self.few.transposes and (FEWEST_ROWS if kernels().never_onednn else 1) <= rows <= MOST_ROWS
        if gains and self._by_column is None and self.few.copies(copied):
            joined = weights[0] if len(weights) == 1 else torch.cat(weights)
            self._by_column = joined.t().contiguous().t()
        if gains and self._by_column is not None:
            self._weight = self._by_column
        elif len(weights) == 1:
            self._weight = weights[0]
        elif self._weight is None and self.few.copies(copied):
            self._weight = torch.cat(weights)
        self._rows = rows


class LightLinear(Linear):
    """A linear layer whose adapter, if there is one, is part of its weight, and that is fast for few rows."""

    few: Few
    product: Joined

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.product(x) if self.few.began else linear(x, self.weight, self.bias)


def light_linear(layer: Linear, copies: Copies, few: Few) -> LightLinear | None:
    """The copy of a linear layer, in float32; in lower precision an adapter would be lost in the rounded sum."""
    weight = layer.weight
    if layer.lora is not None:
        if weight.dtype not in (torch.float32, torch.float64):
            return None
        weight = layer.whole_weight.detach()
    copy: LightLinear = copies.plain(layer, LightLinear, few=few, weight=weight, lora=None)
    copy.product = Joined([(weight, layer.bias)], few)
    return copy


def joined(layers: Sequence[Linear], few: Few) -> Callable[[Tensor], Tensor]:
    """Copies of linear layers with the same input -> their outputs side by side, for the rows of a step."""
    if all(isinstance(layer, LightLinear) for layer in layers):
        return Joined([(layer.weight, layer.bias) for layer in layers], few)
    return lambda x: torch.cat([layer(x) for layer in layers], -1)
