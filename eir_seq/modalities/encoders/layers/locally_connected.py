"""Locally connected layers: neighbours are read together as by a convolution, but no weights are shared.

Position carries the meaning, as with genetic variants; see "Deep integrative models for large-scale human
genomics" (Sigurdsson et al. 2023, doi:10.1093/nar/gkad373).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.stochastic_depth import StochasticDepth

if TYPE_CHECKING:
    from eir_seq.modalities.encoders.options import LclOptions


class LocallyConnected(nn.Module):
    """Cuts positions into chunks of `width` neighbours; each has its own weights.

    Args:
        positions: how many there are; the last chunk is filled up with zeros.
        width: positions of a chunk.
        channels: of what is read and of what is given.

    Example:
        >>> layer = LocallyConnected(10, 4, (3, 8))
        >>> layer(torch.zeros(2, 10, 3)).shape, layer.positions
        (torch.Size([2, 3, 8]), 3)
    """

    def __init__(self, positions: int, width: int, channels: tuple[int, int]) -> None:
        super().__init__()
        read, given = channels
        self.positions = math.ceil(positions / width)
        self.lacking = self.positions * width - positions
        bound = 1 / math.sqrt(width * read)  # as that of a linear layer
        self.weight = nn.Parameter(torch.empty(self.positions, width * read, given).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(self.positions, 1, given).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, positions, channels) to (batch, chunks, channels)."""
        chunks = F.pad(x, (0, 0, 0, self.lacking)).reshape(len(x), self.positions, -1)
        return torch.baddbmm(self.bias.to(x.dtype), chunks.transpose(0, 1), self.weight.to(x.dtype)).transpose(0, 1)


class LocallyConnectedBlock(nn.Module):
    """``shortcut(x) + branch(x)``, where chunks of `width` positions become one."""

    def __init__(
        self, positions: int, width: int, channels: tuple[int, int], dropout: float, stochastic_depth: float
    ) -> None:
        super().__init__()
        first = LocallyConnected(positions, width, channels)
        self.positions = first.positions
        self.branch = nn.Sequential(
            nn.LayerNorm((positions, channels[0])),
            nn.GELU(),
            first,
            nn.LayerNorm((self.positions, channels[1])),
            nn.GELU(),
            Dropout(dropout),
            LocallyConnected(self.positions, 1, (channels[1], channels[1])),
        )
        same = width == 1 and channels[0] == channels[1]
        self.shortcut = nn.Identity() if same else LocallyConnected(positions, width, channels)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, positions, channels) to (batch, chunks, channels)."""
        summed: Tensor = self.shortcut(x) + self.stochastic_depth(self.branch(x))
        return summed


class LocallyConnectedNetwork(nn.Module):
    """A locally connected layer and residual blocks, until few features are left.

    Args:
        options: see there.
        positions: how many there are.
        channels: of each.
        first_width: positions that a unit of the first layer reads; by default what the options say.

    Example:
        >>> from eir_seq.modalities.encoders.options import LclOptions
        >>> network = LocallyConnectedNetwork(LclOptions(), 1000, 3)
        >>> network(torch.zeros(2, 1000, 3)).shape, network.positions, network.channels
        (torch.Size([2, 125, 4]), 125, 4)
    """

    def __init__(self, options: LclOptions, positions: int, channels: int, first_width: int | None = None) -> None:
        super().__init__()
        self.channels = 2**options.channel_exp_base
        if options.num_chunks is not None:
            first_width = first_width or math.ceil(positions / options.num_chunks)
        first_width = first_width or options.first_kernel_width or max(1, options.kernel_width // 2 // channels)
        wide = self.channels * options.first_channel_expansion
        self.first = LocallyConnected(positions, min(first_width, positions), (channels, wide))
        self.positions = self.first.positions
        widths = list(self._widths(options, self.positions, wide))
        self.blocks = nn.Sequential()
        for number, width in enumerate(widths):
            depth = options.stochastic_depth * (number + 1) / len(widths)
            block = LocallyConnectedBlock(self.positions, width, (wide, self.channels), options.dropout, depth)
            self.blocks.append(block)
            self.positions, wide = block.positions, self.channels
        self.channels = wide

    def _widths(self, options: LclOptions, positions: int, channels: int) -> Iterator[int]:
        """For each block, the positions that its units read."""
        blocks = 0
        while blocks != options.num_blocks and (options.num_blocks or positions * channels > options.cutoff):
            width = min(positions, max(2, options.kernel_width // channels))
            yield width
            positions, channels, blocks = math.ceil(positions / width), self.channels, blocks + 1
            if positions == 1 and options.num_blocks is None:
                return

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (batch, positions, channels) to (batch, `self.positions`, `self.channels`)."""
        read: Tensor = self.blocks(self.first(x))
        return read
