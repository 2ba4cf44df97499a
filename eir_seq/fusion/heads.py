"""The layers before the last one of a head, as `head` of an output says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.heads import HeadConfig, MlpResidualHeadConfig, SharedHeadConfig
from eir_seq.errors import Fault, UserError
from eir_seq.fusion.layers import ResidualBlock
from eir_seq.models.output import TokenStates


class ResidualTrunk(nn.Module):
    """Residual blocks: (..., features) to (..., output_size)."""

    def __init__(self, in_features: int, config: MlpResidualHeadConfig) -> None:
        super().__init__()
        self.output_size = config.hidden_size or in_features
        same = self.output_size == in_features
        self.project = nn.Identity() if same else nn.Linear(in_features, self.output_size)
        blocks = (
            ResidualBlock(self.output_size, config.dropout, config.stochastic_depth) for _ in range(config.num_layers)
        )
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.output_size) if config.output_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(..., features)`` to ``(..., output_size)``."""
        normed: Tensor = self.norm(self.blocks(self.project(x)))
        return normed


class GatedTrunk(nn.Module):
    """Experts that several outputs share, mixed by a gate of this output (MMoE: Ma et al. 2018, KDD)."""

    def __init__(self, in_features: int, experts: nn.ModuleList) -> None:
        super().__init__()
        first = experts[0]
        assert isinstance(first, ResidualTrunk)
        self.output_size = first.output_size
        self.experts = experts
        self.gate = nn.Linear(in_features, len(experts)) if len(experts) > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(..., features)`` to ``(..., output_size)``."""
        if self.gate is None:
            alone: Tensor = self.experts[0](x)
            return alone
        found = torch.stack([expert(x) for expert in self.experts], dim=-2)
        mixed: Tensor = (self.gate(x).softmax(dim=-1)[..., None] * found).sum(dim=-2)
        return mixed


class TrunkHead(nn.Module):
    """A trunk, and the head that reads what it gives: fused features (batch, features), or token states."""

    def __init__(self, trunk: nn.Module, out: nn.Module) -> None:
        super().__init__()
        self.trunk, self.out = trunk, out

    @property
    def reads_target(self) -> bool:
        """Whether the head does, see `eir_seq.training.network.Network`."""
        return bool(getattr(self.out, "reads_target", False))

    def forward(self, features: Tensor | TokenStates, *given: Tensor | None) -> Tensor:
        """The raw output, (batch, ...); `given` is what the head reads besides."""
        if isinstance(features, TokenStates):
            raw: Tensor = self.out(replace(features, states=self.trunk(features.states)))
        else:
            raw = self.out(self.trunk(features), *given)
        return raw

    def sample(self, features: Tensor, *how: Any) -> Tensor:
        """What a head that generates draws for rows, (rows, ...)."""
        out: Any = self.out
        drawn: Tensor = out.sample(self.trunk(features), *how)
        return drawn


def build_trunks(heads: Mapping[str, HeadConfig], sizes: Mapping[str, int]) -> dict[str, ResidualTrunk | GatedTrunk]:
    """The trunk of each output that has one.

    Args:
        heads: by output.
        sizes: by output, the width of the features that it reads.

    Raises:
        UserError: outputs that share a head read features of different widths.

    Example:
        >>> from eir_seq.config.heads import LinearHeadConfig, MlpResidualHeadConfig
        >>> heads = {"a": LinearHeadConfig(), "b": MlpResidualHeadConfig(hidden_size=8)}
        >>> {name: trunk.output_size for name, trunk in build_trunks(heads, {"a": 4, "b": 4}).items()}
        {'b': 8}
    """
    shared: dict[str, tuple[str, nn.ModuleList]] = {}
    trunks: dict[str, ResidualTrunk | GatedTrunk] = {}
    for name, config in heads.items():
        if isinstance(config, SharedHeadConfig):
            first, experts = shared.setdefault(config.group, (name, nn.ModuleList()))
            if sizes[first] != sizes[name]:
                message = f"reads {sizes[name]} features, and outputs.{first} of the same group {sizes[first]}"
                raise UserError(Fault(f"outputs.{name}.head", message))
            if not experts:
                experts.extend(ResidualTrunk(sizes[name], config) for _ in range(config.num_experts))
            trunks[name] = GatedTrunk(sizes[name], experts)
        elif isinstance(config, MlpResidualHeadConfig):
            trunks[name] = ResidualTrunk(sizes[name], config)
    return trunks
