"""Encoders of grids: values (batch, channels, height, width) of one shape, such as arrays and genotypes."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.base import Encoder, VectorEncoder
from eir_seq.modalities.encoders.layers.locally_connected import LocallyConnectedNetwork
from eir_seq.modalities.encoders.layers.patches import Patches, Shape
from eir_seq.modalities.encoders.layers.residual_cnn import ResidualCnn
from eir_seq.modalities.encoders.options import (
    BlockOptions,
    CnnOptions,
    GridIdentityOptions,
    GridLinearOptions,
    LclOptions,
    PatchLclOptions,
)
from eir_seq.models.output import TokenStates


class FittedGrid(Protocol):
    """A fitted input whose encoders read grids."""

    name: str

    @property
    def grid(self) -> Shape:
        """Channels, height and width of what encoders read."""
        ...


class GridEncoder(Encoder):
    """The base of encoders of grids that give states: positions, chunks or patches."""

    def __init__(self, options: Any, fitted: FittedGrid) -> None:
        super().__init__()
        self.options, self.name, self.grid = options, fitted.name, fitted.grid

    def read(self, values: Tensor) -> TokenStates:  # type: ignore[override]  # the tensors by name
        """States (batch, length, state_size) of values (batch, channels, height, width)."""
        states = self.states(values)
        return TokenStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def states(self, values: Tensor) -> Tensor:
        """The states without their mask."""
        raise NotImplementedError


class FlattenedStates(GridEncoder):
    """States side by side make the vector, or a linear layer on them."""

    def finish(self, options: BlockOptions, length: int, state_size: int) -> None:
        """Set what depends on the number of states and their size."""
        self.state_size = state_size
        features = length * state_size
        self.output_size = options.output_size or features
        self.project = nn.Identity() if options.output_size is None else nn.Linear(features, self.output_size)

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size)."""
        vector: Tensor = self.project(tokens.states.flatten(1))
        return vector


class CnnEncoder(FlattenedStates):
    """A residual convolutional network; its states are the positions that are left."""

    def __init__(self, options: CnnOptions, fitted: FittedGrid) -> None:
        super().__init__(options, fitted)
        channels, height, width = self.grid
        self.network = ResidualCnn(options, channels, (height, width))
        self.finish(options, math.prod(self.network.size), self.network.channels)

    def states(self, values: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) to (batch, positions, channels)."""
        read: Tensor = self.network(values)
        return read.flatten(2).transpose(1, 2)

    def penalty(self) -> Tensor | None:
        """The L1 penalty on the first convolution."""
        return l1(self.options.l1, self.network.first.convolve.weight)


class LclEncoder(FlattenedStates):
    """Locally connected residual blocks over positions, line by line, or over patches; states are the last units."""

    def __init__(self, options: LclOptions, fitted: FittedGrid) -> None:
        super().__init__(options, fitted)
        channels, height, width = self.grid
        sides = options.patch_size if isinstance(options, PatchLclOptions) else None
        self.patches = None if sides is None else patches(self.grid, sides, fitted.name)
        if self.patches is None:
            self.network = LocallyConnectedNetwork(options, height * width, channels)
        else:
            self.network = LocallyConnectedNetwork(options, self.patches.count, self.patches.size, first_width=1)
        self.finish(options, self.network.positions, self.network.channels)

    def states(self, values: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) to (batch, units, channels)."""
        cut = values.flatten(2).transpose(1, 2) if self.patches is None else self.patches(values)
        read: Tensor = self.network(cut)
        return read

    def penalty(self) -> Tensor | None:
        """The L1 penalty on the first layer."""
        return l1(self.options.l1, self.network.first.weight)


class LinearEncoder(VectorEncoder):
    """One linear layer on all values."""

    def __init__(self, options: GridLinearOptions, fitted: FittedGrid) -> None:
        super().__init__()
        self.options, self.output_size = options, options.output_size
        self.linear = nn.Linear(math.prod(fitted.grid), options.output_size)

    def encode(self, values: Tensor) -> Tensor:  # type: ignore[override]  # the tensors by name
        """Shape: (batch, channels, height, width) to (batch, output_size)."""
        vector: Tensor = self.linear(values.flatten(1))
        return vector

    def penalty(self) -> Tensor | None:
        """The L1 penalty on the weights."""
        return l1(self.options.l1, self.linear.weight)


class IdentityEncoder(VectorEncoder):
    """All values, one behind another."""

    def __init__(self, options: GridIdentityOptions, fitted: FittedGrid) -> None:
        super().__init__()
        del options
        self.output_size = math.prod(fitted.grid)

    def encode(self, values: Tensor) -> Tensor:  # type: ignore[override]  # the tensors by name
        """Shape: (batch, channels, height, width) to (batch, output_size)."""
        return values.flatten(1)


def patches(grid: Shape, sides: list[int], name: str) -> Patches:
    """The patches of an input; raises `UserError` where they are larger than it."""
    try:
        return Patches(grid, sides)
    except ValueError as error:
        raise UserError(Fault(f"inputs.{name}.model.model_init_config.patch_size", str(error))) from None


def l1(factor: float, weight: Tensor) -> Tensor | None:
    """`factor` times the sum of absolute weights; None for a factor of 0."""
    return factor * weight.abs().sum() if factor else None
