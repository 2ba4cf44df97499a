"""The fusion modules and what they are built from."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.fusion import (
    FusionBase,
    GatedExpertsFusionConfig,
    LinearFusionConfig,
    MlpResidualFusionConfig,
    MlpResidualSumFusionConfig,
    PassThroughFusionConfig,
    ResidualFusionBase,
)
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.stochastic_depth import StochasticDepth

WIDEST = 256
"""Width of residual blocks whose width is not configured, at most."""


class ResidualBlock(nn.Module):
    """``x + branch(norm(x))`` with a feed-forward branch that stochastic depth may leave out.

    The last layer of the branch begins with zeros, so that a stack of blocks begins as the identity and a deep one
    learns from the first step on as a shallow one does (Zhang et al. 2019, "Fixup Initialization", arXiv:1901.09321).

    Args:
        hidden_size: width of what comes in and goes out.
        dropout: between the two linear layers, and of the branch.
        stochastic_depth: probability of leaving the branch out.
        branch_dropout: of the branch, if not the same.
    """

    def __init__(
        self, hidden_size: int, dropout: float, stochastic_depth: float, branch_dropout: float | None = None
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.up = nn.Linear(hidden_size, hidden_size)
        self.activation = nn.GELU()
        self.dropout = Dropout(dropout)
        self.down = nn.Linear(hidden_size, hidden_size)
        self.branch_dropout = Dropout(dropout if branch_dropout is None else branch_dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(batch, hidden)`` in and out."""
        branch = self.down(self.dropout(self.activation(self.up(self.norm(x)))))
        summed: Tensor = x + self.stochastic_depth(self.branch_dropout(branch))
        return summed


class Fusion(nn.Module):
    """Base of all fusions: ``{input: (batch, size)}`` -> ``{output: (batch, size_of(output))}``.

    One that `reads_states` gets `TokenStates` in place of vectors: the states (batch, length, size) of each input with
    their mask, of length 1 where the encoder gives a vector. Its config says so.
    """

    reads_states: bool = False
    output_size: int

    def __init__(self, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__()
        self.inputs = list(sizes)
        self.outputs = list(outputs)
        self.total_size = sum(sizes.values())

    def size_of(self, output: str) -> int:
        """Width of the features of an output; by default that of all of them."""
        del output
        return self.output_size

    def concatenate(self, features: dict[str, Any]) -> Tensor:
        """All features side by side, in the order of the config. Shape: ``(batch, total_size)``."""
        return torch.cat([features[name] for name in self.inputs], dim=-1)

    def shared(self, fused: Tensor) -> dict[str, Tensor]:
        """The same features for every output."""
        return dict.fromkeys(self.outputs, fused)


class ConcatFusion(Fusion):
    """The features of all inputs side by side."""

    def __init__(self, _config: FusionBase, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = self.total_size

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        return self.shared(self.concatenate(features))


class PassThroughFusion(Fusion):
    """The features of one input for each output."""

    def __init__(self, config: PassThroughFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.sizes = dict(sizes)
        self.read = {name: config.inputs.get(name, self.inputs[0]) for name in outputs}
        assert len(sizes) == 1 or set(outputs) <= set(config.inputs), "a rule demands that each output names its input"

    def size_of(self, output: str) -> int:
        """That of the input that it reads."""
        return self.sizes[self.read[output]]

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        return {name: features[source] for name, source in self.read.items()}


class LinearFusion(Fusion):
    """One linear layer on the concatenated features."""

    def __init__(self, config: LinearFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size or self.total_size
        self.project = nn.Linear(self.total_size, self.output_size)
        self.dropout = Dropout(config.dropout)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        return self.shared(self.dropout(self.project(self.concatenate(features))))


class ResidualBlocks(nn.Sequential):
    """Residual blocks by the options of a fusion.

    They end in no normalisation unless it is asked for: before training, features of all rows are much alike, and a
    norm makes what they share as large as it makes their differences small. Tiny encoders then learned nothing where a
    linear layer on their features learned everything.
    """

    def __init__(self, config: ResidualFusionBase, hidden_size: int) -> None:
        inside = config.dropout if config.hidden_dropout is None else config.hidden_dropout
        after = config.dropout if config.branch_dropout is None else config.branch_dropout
        super().__init__(
            *(ResidualBlock(hidden_size, inside, config.stochastic_depth, after) for _ in range(config.num_layers))
        )


class MlpResidualFusion(Fusion):
    """Residual feed-forward blocks on the concatenated features.

    Without a `hidden_size` the blocks are as wide as the features, which they then read unprojected (up to `WIDEST`).
    A wide layer after a narrow encoder multiplies the gradient that reaches it: under Adam that is as if the learning
    rate were higher, and tiny encoders stop learning where a linear layer on their features learns.
    """

    def __init__(self, config: MlpResidualFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size or min(self.total_size, WIDEST)
        unprojected = config.hidden_size is None and self.output_size == self.total_size
        self.input_dropout = Dropout(config.input_dropout)
        self.project = nn.Identity() if unprojected else nn.Linear(self.total_size, self.output_size)
        self.blocks = ResidualBlocks(config, self.output_size)
        self.final_norm = nn.LayerNorm(self.output_size) if config.output_norm else nn.Identity()
        self.output_dropout = Dropout(config.output_dropout)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        x = self.project(self.input_dropout(self.concatenate(features)))
        return self.shared(self.output_dropout(self.final_norm(self.blocks(x))))


class MlpResidualSumFusion(Fusion):
    """Residual feed-forward blocks on the sum of the normalised and projected inputs, over the root of their number."""

    def __init__(self, config: MlpResidualSumFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size or min(max(sizes.values()), WIDEST)
        self.input_dropout = Dropout(config.input_dropout)
        self.project = nn.ModuleDict(
            {
                module_key(name): nn.Sequential(nn.LayerNorm(size), nn.Linear(size, self.output_size))
                for name, size in sizes.items()
            }
        )
        self.blocks = ResidualBlocks(config, self.output_size)
        self.final_norm = nn.LayerNorm(self.output_size) if config.output_norm else nn.Identity()
        self.output_dropout = Dropout(config.output_dropout)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        projected = [self.project[module_key(name)](self.input_dropout(features[name])) for name in self.inputs]
        x = torch.stack(projected).sum(dim=0) / math.sqrt(len(projected))
        return self.shared(self.output_dropout(self.final_norm(self.blocks(x))))


class GatedExpertsFusion(Fusion):
    """Experts shared by all outputs and mixed by one gate per output (MMoE: Ma et al. 2018, KDD)."""

    def __init__(self, config: GatedExpertsFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.total_size, config.hidden_size),
                nn.GELU(),
                Dropout(config.dropout),
                nn.Linear(config.hidden_size, config.hidden_size),
                *(
                    ResidualBlock(config.hidden_size, config.dropout, config.stochastic_depth)
                    for _ in range(config.num_layers)
                ),
            )
            for _ in range(config.num_experts)
        )
        self.gates = nn.ModuleDict(
            {module_key(name): nn.Linear(self.total_size, config.num_experts) for name in outputs}
        )
        self.output_dropout = Dropout(config.output_dropout)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        x = self.concatenate(features)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # (batch, experts, hidden)
        return {
            name: self.output_dropout(
                torch.einsum("be,beh->bh", self.gates[module_key(name)](x).softmax(dim=-1), experts)
            )
            for name in self.outputs
        }


def module_key(name: str) -> str:
    """The key of an input or output among modules: `ModuleDict` refuses names of its own attributes, such as "keys"."""
    return f"of_{name}"
