"""The damped moving average in several dimensions (Mega, https://arxiv.org/abs/2209.10655, 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.left_aligned import LeftAligned
from eir_seq.models.layers.precision import at_least_float32

FEW_AGES = 8
"""Tokens that a kernel reaches over, up to which a sum is faster than a transform; it also rounds each token alone."""


class ExponentialMovingAverage(Configured):
    """Every channel is written to several numbers that fade at learned rates; their weighted sum is its average.

    With constant rates this is a convolution with one kernel per channel, so Fourier transforms compute all times at
    once. A bidirectional average is the sum of two, of the tokens so far and of those from here on.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`dimensions`: numbers per channel; `reach`: tokens that a kernel reaches over, None for all."""

        hidden_size: int
        dimensions: int
        bidirectional: bool
        reach: int | None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        kernels = config.hidden_size * (2 if config.bidirectional else 1)
        self.damping = nn.Parameter(torch.empty(kernels, config.dimensions, 1))
        self.decay = nn.Parameter(torch.empty(kernels, config.dimensions, 1))
        self.expansion = nn.Parameter(torch.empty(kernels, config.dimensions, 1))
        self.projection = nn.Parameter(torch.empty(kernels, config.dimensions))
        self.residual = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, x: Tensor, rows: LeftAligned, cache: Cache | None) -> Tensor:
        """States of the layout that `rows` is of -> the same; with a cache those continue from earlier ones."""
        inputs = at_least_float32(rows.spread(x))
        with torch.autocast(x.device.type, enabled=False):
            if cache is None:
                average = convolved(inputs, self._kernel(inputs.shape[1]), self.config.bidirectional)
            elif self.config.reach is None:
                average = self._faded(inputs, cache)
            else:
                average = self._within_reach(inputs, cache, self.config.reach - 1)
        return F.silu(rows.collect(average).to(x.dtype) + x * self.residual)

    def _rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is written to each number, what stays of it at the next token, and its weight: (kernels, dimensions)."""
        damping = torch.sigmoid(at_least_float32(self.damping.squeeze(-1)))
        kept = 1 - damping * torch.sigmoid(at_least_float32(self.decay.squeeze(-1)))
        weight = at_least_float32(self.projection) / math.sqrt(self.config.dimensions)
        return damping * at_least_float32(self.expansion.squeeze(-1)), kept, weight

    def _kernel(self, length: int) -> Tensor:
        """(kernels, length or reach), by the age of a token."""
        written, kept, weight = self._rates()
        reach = self.config.reach or length
        return geometric(written * weight, kept, reach if torch.compiler.is_exporting() else min(length, reach))

    def _faded(self, inputs: Tensor, cache: Cache) -> Tensor:
        """(batch, length, hidden) -> the same; the cache holds the numbers after the last token."""
        length, (written, kept, weight) = inputs.shape[1], self._rates()
        average = convolved(inputs, geometric(written * weight, kept, length), False)
        state = written * faded_sum(inputs.flip(1), kept)
        if (earlier := cache.state(self)) is not None:
            average = average + geometric(earlier[0] * weight * kept, kept, length).mT
            state = state + earlier[0] * kept**length
        cache.keep_state(self, state)
        return average

    def _within_reach(self, inputs: Tensor, cache: Cache, after: int) -> Tensor:
        """(batch, length, hidden) -> the same; the cache holds the last tokens, as many as reach further: `after`."""
        earlier = cache.state(self)
        kept = inputs.new_zeros(inputs.shape[0], after, inputs.shape[2]) if earlier is None else earlier[0]
        everything = torch.cat((kept, inputs), 1)
        cache.keep_state(self, everything[:, everything.shape[1] - after :])
        return convolved(everything, self._kernel(everything.shape[1]), False)[:, after:]


def geometric(first: Tensor, ratio: Tensor, count: int) -> Tensor:
    """Sums of geometric sequences, (..., dimensions) each of `first` and `ratio` -> (..., count).

    The first terms are those of `first`. Powers are products of a few, about twice the root of their number.
    """
    if torch.compiler.is_exporting():  # the root of a dynamic number is none that a graph knows
        return (first[..., None] * ratio[..., None] ** torch.arange(count, device=ratio.device)).sum(-2)
    step = max(1, math.isqrt(count))
    places = torch.arange(step, device=ratio.device)
    starts = step * torch.arange(-(-count // step), device=ratio.device)
    far = first[..., None] * ratio[..., None] ** starts
    return (far.mT @ ratio[..., None] ** places).flatten(-2)[..., :count]


def faded_sum(x: Tensor, ratio: Tensor) -> Tensor:
    """Sums over ages of x * ratio^age: (batch, ages, channels), (channels, dimensions) -> (batch, ..., dimensions)."""
    step = max(1, math.isqrt(x.shape[1]))
    blocks = F.pad(x, (0, 0, 0, -x.shape[1] % step)).unflatten(1, (-1, step))
    places = torch.arange(step, device=x.device)
    starts = step * torch.arange(blocks.shape[1], device=x.device)
    near = torch.einsum("bksc,cns->bkcn", blocks, ratio[..., None] ** places)
    return torch.einsum("bkcn,cnk->bcn", near, ratio[..., None] ** starts)


def convolved(x: Tensor, kernel: Tensor, bidirectional: bool) -> Tensor:
    """(batch, length, channels) with (channels, reach), or twice the channels, the second half for ages below zero."""
    length, reach = x.shape[1], kernel.shape[1]
    few = isinstance(reach, int) and reach <= FEW_AGES  # else a symbol, of any size
    if few:
        if not bidirectional:
            return summed(x, kernel)
        past, future = kernel.chunk(2)
        return summed(x, past) + summed(x.flip(1), future).flip(1)
    size = length + reach - 1  # room enough that the ends do not meet
    if not torch.compiler.is_exporting():
        size = 1 << (size - 1).bit_length()
    spectrum = torch.fft.rfft(kernel, size)
    if bidirectional:
        past, future = spectrum.chunk(2)
        spectrum = past + future.conj()  # conjugation turns time around
    return torch.fft.irfft(torch.fft.rfft(x.mT, size) * spectrum, size)[..., :length].mT


def summed(x: Tensor, kernel: Tensor) -> Tensor:
    """The convolution with a kernel in one direction, age by age."""
    length, reach = x.shape[1], kernel.shape[1]
    padded = F.pad(x, (0, 0, reach - 1, 0))
    return sum((padded[:, -length - age :][:, :length] * kernel[:, age] for age in range(reach)), torch.zeros_like(x))
