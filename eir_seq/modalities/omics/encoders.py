"""Encoders of genotypes: codes become one-hot values, which an encoder of grids reads."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from eir_seq.config.schema import DataConfig
from eir_seq.modalities.encoders.base import Encoder
from eir_seq.modalities.encoders.grids import FittedGrid, GridEncoder, l1
from eir_seq.modalities.encoders.layers.locally_connected import LocallyConnected, LocallyConnectedNetwork
from eir_seq.modalities.encoders.mixing import Mixing
from eir_seq.modalities.omics.encoder_configs import GroupOptions, SimpleLclOptions
from eir_seq.models.output import TokenStates
from eir_seq.registry import imported


def one_hot(codes: Tensor, categories: int) -> Tensor:
    """Codes (batch, SNPs) to values (batch, categories, 1, SNPs); codes beyond the categories are zeros.

    >>> one_hot(torch.tensor([[0, 2, 3]]), 3)[0, :, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    numbers = torch.arange(categories, dtype=codes.dtype, device=codes.device)
    return (codes[:, None, None] == numbers[:, None, None]).float()


class GenotypeEncoder(Encoder):
    """Makes one-hot values of codes for `reader`.

    Whoever changes genotypes of a batch may change `codes`, or pass on `values` instead: what `expand` makes of codes,
    such as a mixture of the one-hot values of two rows.
    """

    def __init__(self, reader: Encoder, categories: int) -> None:
        super().__init__()
        self.reader, self.categories = reader, categories
        self.output_size, self.state_size = reader.output_size, reader.state_size

    @classmethod
    def build(cls, fitted: Any, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Self:
        """See `Encoder.build`."""
        del data, pretrained
        assert task is None, "rules keep outputs with a task from other encoders"
        model = fitted.config.model
        return cls(imported(model.READER)(model.model_init_config, fitted), fitted.grid[0])

    def expand(self, codes: Tensor) -> Tensor:
        """See `one_hot`."""
        return one_hot(codes, self.categories)

    def read(self, codes: Tensor | None = None, values: Tensor | None = None) -> TokenStates:  # type: ignore[override]
        """States of codes (batch, SNPs), or of values (batch, categories, 1, SNPs)."""
        return self.reader.read(values=self._values(codes, values))

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size)."""
        return self.reader.pool_tokens(tokens)

    def forward(self, codes: Tensor | None = None, values: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The vector of each row, (batch, output_size)."""
        vector: Tensor = self.reader(values=self._values(codes, values))
        return vector

    def mix(self, tensors: dict[str, Tensor], mixing: Mixing) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted sums of one-hot values; a cut takes codes of whole positions. See `Encoder.mix`."""
        if mixing.way == "mixup":
            tensors = {"values": self.expand(tensors["codes"])}
        return super().mix(tensors, mixing)

    def penalty(self) -> Tensor | None:
        """That of the reader."""
        return self.reader.penalty()

    def _values(self, codes: Tensor | None, values: Tensor | None) -> Tensor:
        if values is None:
            assert codes is not None
            values = self.expand(codes)
        return values


class SimpleLcl(GridEncoder):
    """A single locally connected layer; its chunks are the states."""

    def __init__(self, options: SimpleLclOptions, fitted: FittedGrid) -> None:
        super().__init__(options, fitted)
        categories, _, snps = self.grid
        self.layer = LocallyConnected(snps, math.ceil(snps / options.num_chunks), (categories, options.features))
        self.state_size = options.features
        self.output_size = self.layer.positions * options.features

    def states(self, values: Tensor) -> Tensor:
        """Shape: (batch, categories, 1, SNPs) to (batch, chunks, features)."""
        read: Tensor = self.layer(values.flatten(2).transpose(1, 2))
        return read

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The chunks side by side."""
        return tokens.states.flatten(1)

    def penalty(self) -> Tensor | None:
        """The L1 penalty on the weights."""
        return l1(self.options.l1, self.layer.weight)


class GroupExperts(GridEncoder):
    """A branch for each named group of SNPs; a gate that reads all groups weighs them.

    The groups are the states. The vector is their weighted sum, and their features side by side behind it.
    """

    def __init__(self, options: GroupOptions, fitted: Any) -> None:
        super().__init__(options, fitted)
        categories = self.grid[0]
        self.groups = [torch.tensor(places) for places in fitted.groups.values()]
        self.branches, self.projections = nn.ModuleList(), nn.ModuleList()
        for places in self.groups:
            branch = LocallyConnectedNetwork(options, len(places), categories)
            self.branches.append(branch)
            self.projections.append(nn.Linear(branch.positions * branch.channels, options.group_size))
        self.state_size = options.group_size
        self.gate = nn.Linear(len(self.groups) * self.state_size, len(self.groups))
        size = self.state_size * (1 + len(self.groups))
        self.project = nn.Identity() if options.output_size is None else nn.Linear(size, options.output_size)
        self.output_size = options.output_size or size

    def states(self, values: Tensor) -> Tensor:
        """Shape: (batch, categories, 1, SNPs) to (batch, groups, group_size)."""
        positions = values.flatten(2).transpose(1, 2)
        found = [
            project(branch(positions[:, places.to(values.device)]).flatten(1))
            for places, branch, project in zip(self.groups, self.branches, self.projections, strict=True)
        ]
        return torch.stack(found, dim=1)

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size)."""
        side_by_side = tokens.states.flatten(1)
        weights = self.gate(side_by_side).softmax(dim=-1)
        mixed = torch.einsum("bg,bgs->bs", weights, tokens.states)
        vector: Tensor = self.project(torch.cat((mixed, side_by_side), dim=1))
        return vector

    def penalty(self) -> Tensor | None:
        """The L1 penalty on the first layers of all branches."""
        first: list[Any] = [branch.first for branch in self.branches]
        return l1(self.options.l1, torch.cat([layer.weight.flatten() for layer in first]))
