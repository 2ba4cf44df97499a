"""The form of outputs of arrays and pictures with `loss: diffusion`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.outputs.arrays.forms import Numbers
from eir_seq.outputs.diffusion.config import DiffusionOptions
from eir_seq.outputs.diffusion.drawing import Drawer
from eir_seq.outputs.diffusion.head import DiffusionHead

if TYPE_CHECKING:
    from eir_seq.outputs.generation.source import WritingNetwork
    from eir_seq.rows import Rows


class Generated(Numbers):
    """Numbers that a diffusion model generates.

    Raw outputs are the losses of rows, (rows, 1). Samples are standardized as the raw outputs of `Numbers` are, whose
    metrics are measured of them.
    """

    PREDICTS = False

    @property
    def options(self) -> DiffusionOptions:
        """Those of the config."""
        options: DiffusionOptions = self.output.config.diffusion
        return options

    @property
    def raw_grid(self) -> Shape:
        """One number."""
        return (1, 1, 1)

    def build_head(self, in_features: int, grids: Mapping[str, Shape] = MappingProxyType({})) -> DiffusionHead:
        """Fused features, targets and values of `grids` to losses."""
        output = self.output
        return DiffusionHead(
            output.grid,
            in_features,
            self.options,
            self.standardized,
            output.bounds,
            dropout=output.config.dropout,
            grids=grids,
        )

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, (batch, 1)."""
        del target
        return raw.float()

    def loss_counts(self, target: Tensor) -> Tensor:
        """One for each row, (batch, 1)."""
        return torch.ones(len(target), 1)

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each row."""
        del target
        return raw[:, 0]

    def row_writer(self, network: WritingNetwork, rows: Rows, *, seed: int, all_rows: bool) -> Drawer:
        """What draws samples."""
        return Drawer.of(self.output, network, rows, seed=seed, count=None if all_rows else self.options.sample_rows)
