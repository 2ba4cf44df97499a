"""The fusion modules and what they are built from."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from eir_seq.config.fusion import AttentionFusionConfig, FusionBase, GatedExpertsFusionConfig, MlpResidualFusionConfig
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.stochastic_depth import StochasticDepth


class ResidualBlock(nn.Module):
    """``x + branch(norm(x))`` with a feed-forward branch that stochastic depth may leave out."""

    def __init__(self, hidden_size: int, dropout: float, stochastic_depth: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.up = nn.Linear(hidden_size, hidden_size)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden_size, hidden_size)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(batch, hidden)`` in and out."""
        branch = self.down(self.dropout(self.activation(self.up(self.norm(x)))))
        summed: Tensor = x + self.stochastic_depth(self.dropout(branch))
        return summed


class Fusion(nn.Module):
    """Base of all fusions: ``{input: (batch, size)}`` -> ``{output: (batch, output_size)}``.

    One that `READS_STATES` gets `TokenStates` in place of vectors: the states (batch, length, size) of each input with
    their mask, of length 1 where the encoder gives a vector.
    """

    READS_STATES: ClassVar[bool] = False
    output_size: int

    def __init__(self, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__()
        self.inputs = list(sizes)
        self.outputs = list(outputs)
        self.total_size = sum(sizes.values())

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


class MlpResidualFusion(Fusion):
    """Residual feed-forward blocks on the concatenated features."""

    def __init__(self, config: MlpResidualFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size
        self.project = nn.Linear(self.total_size, config.hidden_size)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(config.hidden_size, config.dropout, config.stochastic_depth)
                for _ in range(config.num_layers)
            )
        )
        self.final_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        return self.shared(self.final_norm(self.blocks(self.project(self.concatenate(features)))))


class AttentionFusion(Fusion):
    """A transformer over one token per input, read out at a learnt summary token."""

    def __init__(self, config: AttentionFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        hidden = config.hidden_size
        if hidden % config.num_heads:
            raise UserError(
                Fault("fusion.num_heads", f"{config.num_heads} heads do not divide fusion.hidden_size {hidden}")
            )
        self.output_size = hidden
        self.project = nn.ModuleDict({_key(name): nn.Linear(size, hidden) for name, size in sizes.items()})
        # One learnt vector per place tells the inputs apart; place 0 is the summary.
        self.places = nn.Parameter(torch.randn(1 + len(sizes), hidden) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden, config.num_heads, 4 * hidden, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, config.num_layers, norm=nn.LayerNorm(hidden), enable_nested_tensor=False
        )
        for parameter in self.layers.parameters():  # the encoder copies one layer; each needs its own start
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        tokens = torch.stack([self.project[_key(name)](features[name]) for name in self.inputs], dim=1)
        summary = tokens.new_zeros(tokens.shape[0], 1, tokens.shape[2])
        states = self.layers(torch.cat([summary, tokens], dim=1) + self.places)
        return self.shared(states[:, 0])


class GatedExpertsFusion(Fusion):
    """Experts shared by all outputs and mixed by one gate per output (MMoE: Ma et al. 2018, KDD)."""

    def __init__(self, config: GatedExpertsFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(sizes, outputs)
        self.output_size = config.hidden_size
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.total_size, config.hidden_size),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden_size, config.hidden_size),
            )
            for _ in range(config.num_experts)
        )
        self.gates = nn.ModuleDict({_key(name): nn.Linear(self.total_size, config.num_experts) for name in outputs})

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        x = self.concatenate(features)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # (batch, experts, hidden)
        return {
            name: torch.einsum("be,beh->bh", self.gates[_key(name)](x).softmax(dim=-1), experts)
            for name in self.outputs
        }


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses names of its own attributes, such as "keys"
