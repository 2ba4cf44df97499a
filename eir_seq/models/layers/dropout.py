"""Dropout that draws a byte for each number, where torch draws a float64 (https://jmlr.org/papers/v15/srivastava14a.html).

On a CPU torch's own dropout takes 7 to 10 ns for each number, most of it for random numbers one by one. Here eight
numbers share a 64-bit draw, and one byte each is kept for the backward pass instead of four.

A byte tells apart probabilities of 1 / 256 only. So the threshold that a byte is compared with is that of the wanted
probability rounded down at some places and up at the others, in a pattern of `ROW` places that begins at a random one
of them: at every place the probability is the wanted one, rounded to 1 / 65536, and so is the share of places in every
row. The factor on what is kept is one over the rounded probability of keeping it: the expectation is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.eager import is_eager
from eir_seq.native import norms as native

ROW = 256
"""Places of the pattern of thresholds."""
STEPS = 256 * ROW
"""Probabilities are multiples of one over this."""
LEAST, MOST = 0.5 / STEPS, 255 / 256
"""Rates between which bytes decide."""


@dataclass(frozen=True)
class Kept:
    """Which of `count` numbers are kept, at random.

    `noise`: a random byte each, in rows of `ROW`; what a last row has beyond `count` is not used. `first`: where the
    pattern of thresholds begins. `dropped`: the rate, of `STEPS`.
    """

    noise: Tensor
    first: int
    dropped: int
    count: int

    @classmethod
    def drawn(cls, count: int, rate: float) -> Kept:
        """A draw of torch's generator for the CPU; each number is dropped with probability `rate`, see `serves`."""
        rows = -(-count // ROW)
        words = torch.empty(rows * (ROW // 8) + 1, dtype=torch.int64).random_(-(2**63), None)
        noise = words.view(torch.int8)
        return cls(noise[: rows * ROW].view(rows, ROW), int(noise[-1]) % ROW, round(rate * STEPS), count)

    def without_noise(self) -> Kept:
        """The same with nothing that memory matters for; `replace` puts the noise back."""
        return replace(self, noise=self.noise.new_empty(0))

    @property
    def scale(self) -> float:
        """The factor on what is kept."""
        return STEPS / (STEPS - self.dropped)

    @property
    def least(self) -> Tensor:
        """(ROW,) the smallest byte at which a number is kept."""
        return _thresholds(self.dropped)[self.first : self.first + ROW]

    def factors(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(count,) one for what is kept, zero for what is dropped."""
        made = torch.empty(self.noise.shape, dtype=dtype)
        torch.ge(self.noise, self.least, out=made)
        return made.view(-1)[: self.count]


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def _thresholds(dropped: int) -> Tensor:
    """(2 * ROW,) int8: the pattern twice, for `dropped` of `STEPS`; multiples of 85 spread what is rounded up."""
    order = torch.arange(2 * ROW) * 85 % ROW
    return ((dropped + order) // ROW - 128).to(torch.int8)


def serves(x: Tensor, rate: float) -> bool:
    """Whether bytes decide about such numbers: on a CPU, outside of graphs, at usual rates."""
    return LEAST < rate < MOST and x.device.type == "cpu" and x.is_floating_point() and is_eager()


class _Dropped(torch.autograd.Function):
    """x with what is dropped set to zero, the rest scaled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        kept = Kept.drawn(x.numel(), rate)
        ctx.save_for_backward(kept.noise)
        ctx.kept = kept.without_noise()
        return _scaled(x, kept)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (noise,) = ctx.saved_tensors
        kept = replace(ctx.kept, noise=noise)
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            return gradients[0] * kept.factors(gradients[0].dtype).view(gradients[0].shape) * kept.scale, None
        return _scaled(gradients[0], kept), None


def _scaled(x: Tensor, kept: Kept) -> Tensor:
    factors = kept.factors(x.dtype).view(x.shape)
    return torch.addcmul(factors.new_zeros(()), factors, x, value=kept.scale, out=factors)  # both products in one pass


def drop(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Sets each number to zero with probability `rate`, in training, and divides the others by ``1 - rate``.

    Example:
        >>> import torch
        >>> from eir_seq.models.layers.dropout import drop
        >>> sorted(set(drop(torch.ones(100), 0.5).tolist()))
        [0.0, 2.0]
    """
    if training and serves(x, rate) and native.drops(x):
        return native.dropped(x, None, rate)
    if training and serves(x, rate):
        dropped: Tensor = _Dropped.apply(x, rate)
        return dropped
    return F.dropout(x, rate, training)


class Dropout(nn.Dropout):
    """`drop` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return drop(x, self.p, self.training)
