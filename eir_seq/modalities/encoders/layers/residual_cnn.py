"""Residual convolutional networks over positions in one or two dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from eir_seq.modalities.encoders.options import CnnOptions

Size = tuple[int, int]
"""Height and width. What has one dimension has the height 1."""
MOST_CHANNELS = 16
"""Times the first number of channels, which doubles with each reduction of the size."""


class Convolution(nn.Module):
    """A convolution that pads with zeros, so that ``ceil(size / stride)`` positions are left.

    Args:
        channels: of what is read and of what is given.
        size: height and width of what is read; the kernel is at most as large.
        kernel: its height and width.
        stride: along both.
        dilation: along both.

    Example:
        >>> import torch
        >>> layer = Convolution((3, 8), (1, 10), kernel=(4, 12), stride=(1, 4))
        >>> layer(torch.zeros(2, 3, 1, 10)).shape, layer.output_size
        (torch.Size([2, 8, 1, 3]), (1, 3))
    """

    def __init__(
        self, channels: tuple[int, int], size: Size, kernel: Size, stride: Size = (1, 1), dilation: Size = (1, 1)
    ) -> None:
        super().__init__()
        fitting = [min(k, max(1, 1 + (n - 1) // d)) for k, n, d in zip(kernel, size, dilation, strict=True)]
        strides = [min(s, n) for s, n in zip(stride, size, strict=True)]
        self.convolve = nn.Conv2d(*channels, tuple(fitting), tuple(strides), dilation=dilation)  # type: ignore[arg-type]
        height, width = (math.ceil(n / s) for n, s in zip(size, strides, strict=True))
        self.output_size: Size = (height, width)
        self.padding: list[int] = []  # along the width first, as `F.pad` has it
        for n, left, s, k, d in zip(size, self.output_size, strides, fitting, dilation, strict=True):
            lacking = max(0, (left - 1) * s + (k - 1) * d + 1 - n)
            self.padding = [lacking // 2, lacking - lacking // 2, *self.padding]

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) in and out."""
        convolved: Tensor = self.convolve(F.pad(x, self.padding))
        return convolved


class ConvolutionalBlock(nn.Module):
    """``shortcut(x) + branch(x)`` with norms before the convolutions (He et al. 2016, arXiv:1603.05027).

    Norms are over all features of a row (one group): a row's result depends on no other row of its batch.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        size: Size,
        kernel: Size,
        stride: Size = (1, 1),
        dilation: Size = (1, 1),
        *,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        read, given = channels
        first = Convolution(channels, size, kernel, stride, dilation)
        self.output_size = first.output_size
        self.branch = nn.Sequential(
            nn.GroupNorm(1, read),
            nn.GELU(),
            first,
            nn.GroupNorm(1, given),
            nn.GELU(),
            Dropout(dropout),
            Convolution((given, given), first.output_size, kernel, dilation=dilation),
        )
        same = read == given and first.output_size == size
        self.shortcut = nn.Identity() if same else Convolution(channels, size, stride, stride)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) in and out."""
        summed: Tensor = self.shortcut(x) + self.stochastic_depth(self.branch(x))
        return summed


class PositionAttention(nn.Module):
    """Self-attention among positions, as a residual branch (heads of about 16 channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.attention = nn.MultiheadAttention(channels, math.gcd(channels, max(1, channels // 16)), batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) in and out."""
        states = self.norm(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(states, states, states, need_weights=False)
        summed: Tensor = x + attended.transpose(1, 2).reshape(x.shape)
        return summed


class ResidualCnn(nn.Module):
    """A convolution and residual blocks; the number of channels doubles with each reduction of the size.

    Args:
        options: see there.
        channels: of what is read.
        size: its height and width.

    Example:
        >>> import torch
        >>> from eir_seq.modalities.encoders.options import CnnOptions
        >>> network = ResidualCnn(CnnOptions(), 3, (1, 1000))
        >>> network(torch.zeros(2, 3, 1, 1000)).shape, network.channels, network.size
        (torch.Size([2, 16, 1, 16]), 16, (1, 16))
    """

    def __init__(self, options: CnnOptions, channels: int, size: Size) -> None:
        super().__init__()
        kernel, dilation = (
            (options.kernel_height, options.kernel_width),
            (
                options.dilation_factor_height,
                options.dilation_factor_width,
            ),
        )
        stride = options.down_stride_height, options.down_stride_width
        first_kernel = _scaled(kernel, (options.first_kernel_expansion_height, options.first_kernel_expansion_width))
        first_stride = _scaled(stride, (options.first_stride_expansion_height, options.first_stride_expansion_width))
        base = 2**options.channel_exp_base
        self.channels = base * options.first_channel_expansion
        self.first = Convolution(
            (channels, self.channels), size, first_kernel, first_stride if options.first_conv_reduces else (1, 1)
        )
        self.size = self.first.output_size
        planned = list(self._plan(options, self.size, stride))
        self.blocks = nn.ModuleList()
        wide = base
        for number, reduces in enumerate(planned):
            wide = min(2 * wide, MOST_CHANNELS * base) if reduces else wide
            block = ConvolutionalBlock(
                (self.channels, wide),
                self.size,
                kernel,
                stride if reduces else (1, 1),
                dilation,
                dropout=options.dropout,
                stochastic_depth=options.stochastic_depth * (number + 1) / len(planned),
            )
            self.blocks.append(block)
            self.channels, self.size = wide, block.output_size
            if math.prod(self.size) <= options.attention_cutoff:
                self.blocks.append(PositionAttention(self.channels))

    @staticmethod
    def _plan(options: CnnOptions, size: Size, stride: Size) -> Iterator[bool]:
        """For each block whether it reduces the size."""
        if options.layers is not None:
            for count in options.layers:
                yield True
                yield from repeat(False, count - 1)
            return
        while math.prod(size) > options.cutoff:
            yield True
            yield from repeat(False, options.down_sample_every_n_blocks - 1)
            smaller = tuple(math.ceil(n / min(s, n)) for n, s in zip(size, stride, strict=True))
            if smaller == size:
                return
            size = smaller[0], smaller[1]

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) to (batch, `self.channels`, *`self.size`)."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def _scaled(sides: Size, factors: tuple[float, float]) -> Size:
    height, width = (max(1, round(side * factor)) for side, factor in zip(sides, factors, strict=True))
    return height, width
