"""Decoders: a vector of features to an array (channels, height, width)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.layers.locally_connected import LocallyConnected
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.modalities.encoders.layers.residual_cnn import Convolution, ConvolutionalBlock, PositionAttention, Size
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.stochastic_depth import StochasticDepth
from eir_seq.models.output import TokenStates
from eir_seq.outputs.arrays.decoder_configs import CnnDecoderOptions, LclDecoderOptions
from eir_seq.outputs.diffusion.config import UNetOptions
from eir_seq.outputs.diffusion.unet import UNet

MOST_CHANNELS = 8
"""Times the last number of channels, from which it doubles with each smaller size."""


class Decoder(nn.Module, ABC):
    """Features (batch, in_features) to arrays (batch, channels, height, width).

    Args:
        options: `model_init_config` of the decoder's config.
        in_features: width of what is read.
        grid: channels, height and width of what is given.
    """

    @abstractmethod
    def __init__(self, options: Any, in_features: int, grid: Shape) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Shape: (batch, in_features) to (batch, channels, height, width)."""


class CnnDecoder(Decoder):
    """A linear layer to a small feature map; upsampling (nearest) and residual blocks up to the size of the array.

    Example:
        >>> import torch
        >>> decoder = CnnDecoder(CnnDecoderOptions(), 10, (3, 16, 20))
        >>> decoder(torch.zeros(2, 10)).shape, decoder.sizes
        (torch.Size([2, 3, 16, 20]), [(2, 3), (4, 5), (8, 10), (16, 20)])
    """

    def __init__(self, options: CnnDecoderOptions, in_features: int, grid: Shape) -> None:
        super().__init__(options, in_features, grid)
        channels, *size = grid
        self.sizes = _sizes(options, (size[0], size[1]))
        kernel, base = (options.kernel_height, options.kernel_width), 2**options.channel_exp_base
        levels = len(self.sizes)
        widths = [base * min(2 ** (levels - 1 - level), MOST_CHANNELS) for level in range(levels)]
        self.first_shape = (widths[0], *self.sizes[0])
        self.project = nn.Linear(in_features, math.prod(self.first_shape))
        self.stages = nn.ModuleList()
        blocks, number = levels * options.num_blocks, 0
        for level, inner in enumerate(self.sizes):
            stage = nn.Sequential()
            for block in range(options.num_blocks):
                number += 1
                read = widths[max(level - 1, 0)] if block == 0 else widths[level]
                depth = options.stochastic_depth * number / blocks
                stage.append(
                    ConvolutionalBlock(
                        (read, widths[level]), inner, kernel, dropout=options.dropout, stochastic_depth=depth
                    )
                )
            if math.prod(inner) <= options.attention_cutoff:
                stage.append(PositionAttention(widths[level]))
            self.stages.append(stage)
        self.last = nn.Sequential(
            nn.GroupNorm(1, widths[-1]), nn.GELU(), Convolution((widths[-1], channels), self.sizes[-1], kernel)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Shape: (batch, in_features) to (batch, channels, height, width)."""
        x = self.project(features).unflatten(1, self.first_shape)
        for size, stage in zip(self.sizes, self.stages, strict=True):
            if x.shape[2:] != size:
                x = F.interpolate(x, size=size, mode="nearest")
            x = stage(x)
        decoded: Tensor = self.last(x)
        return decoded


def _sizes(options: CnnDecoderOptions, size: Size) -> list[Size]:
    """Heights and widths of the feature maps, the last those of the array."""
    found = [size]
    while math.prod(found[0]) > options.cutoff:
        height, width = found[0]
        smaller = (math.ceil(height / options.up_stride_height), math.ceil(width / options.up_stride_width))
        if smaller == found[0]:
            break
        found.insert(0, smaller)
    return found


class LclBlock(nn.Module):
    """``shortcut(x) + branch(x)``, where each unit becomes `expansion` units with weights of their own."""

    def __init__(
        self, units: int, last: int, expansion: int, channels: int, dropout: float, stochastic_depth: float
    ) -> None:
        super().__init__()
        self.units = last
        wider = (channels, expansion * channels)
        self.shortcut = LocallyConnected(units, 1, wider)
        self.before = nn.Sequential(nn.LayerNorm((units, channels)), nn.GELU(), LocallyConnected(units, 1, wider))
        self.after = nn.Sequential(
            nn.LayerNorm((last, channels)),
            nn.GELU(),
            Dropout(dropout),
            LocallyConnected(last, 1, (channels, channels)),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, units, channels) to (batch, `self.units`, channels)."""
        summed: Tensor = self._expanded(self.shortcut(x), x) + self.stochastic_depth(
            self.after(self._expanded(self.before(x), x))
        )
        return summed

    def _expanded(self, wide: Tensor, x: Tensor) -> Tensor:
        return wide.reshape(len(x), -1, x.shape[2])[:, : self.units]


class LclDecoder(Decoder):
    """A linear layer to a few units, locally connected blocks that expand them, and one value per channel and place.

    Places are those of the array, line by line.

    Example:
        >>> import torch
        >>> decoder = LclDecoder(LclDecoderOptions(), 10, (1, 4, 100))
        >>> decoder(torch.zeros(2, 10)).shape, [block.units for block in decoder.blocks]
        (torch.Size([2, 1, 4, 100]), [25, 100, 400])
    """

    def __init__(self, options: LclDecoderOptions, in_features: int, grid: Shape) -> None:
        super().__init__(options, in_features, grid)
        self.grid, self.channels = grid, 2**options.channel_exp_base
        units = [grid[1] * grid[2]]
        while units[0] > options.cutoff:
            units.insert(0, math.ceil(units[0] / options.expansion))
        self.project = nn.Linear(in_features, units[0] * self.channels)
        depths = [options.stochastic_depth * (number + 1) / (len(units) - 1) for number in range(len(units) - 1)]
        self.blocks = nn.Sequential(
            *(
                LclBlock(before, after, options.expansion, self.channels, options.dropout, depth)
                for before, after, depth in zip(units, units[1:], depths, strict=False)
            )
        )
        self.last = LocallyConnected(units[-1], 1, (self.channels, grid[0]))

    def forward(self, features: Tensor) -> Tensor:
        """Shape: (batch, in_features) to (batch, channels, height, width)."""
        x = self.project(features).unflatten(1, (-1, self.channels))
        decoded: Tensor = self.last(self.blocks(x))
        return decoded.transpose(1, 2).reshape(len(features), *self.grid)


class UNetDecoder(nn.Module):
    """A U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on the values of inputs, whose channels are side by side.

    Args:
        options: see there.
        sizes: by input how many values a row has.
        grid: channels, height and width of what is given; inputs have the same height and width.
        name: of the output.

    Raises:
        UserError: an input has another height and width.
    """

    def __init__(self, options: UNetOptions, sizes: Mapping[str, int], grid: Shape, name: str) -> None:
        super().__init__()
        channels, height, width = grid
        faults = []
        for source, size in sizes.items():
            if size % (height * width):
                what = f"inputs.{source} has {size:,} values per row, which are no channels of {height} x {width}"
                faults.append(
                    Fault(f"outputs.{name}.model.model_type", f"unet reads inputs of the output's size; {what}")
                )
        if faults:
            raise UserError(*faults)
        self.inputs, self.size = list(sizes), (height, width)
        self.sides = self.size if height > 1 else (width,)
        self.network = UNet((sum(sizes.values()) // (height * width), *self.sides), 0, options, predicted=channels)

    def forward(self, states: Mapping[str, TokenStates], target: Tensor | None = None) -> Tensor:
        """Raw outputs (batch, channels, height, width) of the values of each input as one state, (batch, 1, size)."""
        del target
        values = [states[name].states for name in self.inputs]
        x = torch.cat([value.reshape(len(value), -1, *self.sides) for value in values], dim=1)
        predicted: Tensor = self.network(x, x.new_zeros(len(x), dtype=torch.long), x.new_zeros(len(x), 0))
        return predicted.reshape(len(x), -1, *self.size)
