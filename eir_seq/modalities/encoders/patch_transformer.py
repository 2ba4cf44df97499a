"""A transformer over patches of a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.grids import FittedGrid, GridEncoder, patches
from eir_seq.modalities.encoders.options import PatchTransformerOptions
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.positions.absolute import SinusoidalPositions
from eir_seq.models.output import TokenStates


class PatchTransformerEncoder(GridEncoder):
    """Patches projected to states, and transformer layers with norms first on them; the states are those of patches."""

    def __init__(self, options: PatchTransformerOptions, fitted: FittedGrid) -> None:
        super().__init__(options, fitted)
        size = options.embedding_dim
        if size % options.num_heads:
            place = f"inputs.{fitted.name}.model.model_init_config.num_heads"
            raise UserError(Fault(place, f"{options.num_heads} heads do not divide embedding_dim {size}"))
        self.patches = patches(self.grid, options.patch_size, fitted.name)
        self.project = nn.Linear(self.patches.size, size)
        if options.position == "embed":
            self.positions = nn.Parameter(torch.randn(self.patches.count, size) * 0.02)
        else:
            encoded = SinusoidalPositions.sinusoids(torch.arange(self.patches.count), size)
            self.register_buffer("positions", encoded, persistent=False)
        self.dropout = Dropout(options.position_dropout)
        width = options.dim_feedforward or 4 * size
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                size, options.num_heads, width, options.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.state_size = size
        self.output_size = size * self.patches.count if options.pool == "none" else size

    def states(self, values: Tensor) -> Tensor:
        """Shape: (batch, channels, height, width) to (batch, patches, embedding_dim)."""
        states = self.dropout(self.project(self.patches(values)) + self.positions)
        for layer in self.layers:
            states = layer(states)
        normed: Tensor = self.norm(states)
        return normed

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size)."""
        if self.options.pool == "none":
            return tokens.states.flatten(1)
        return tokens.states.amax(dim=1) if self.options.pool == "max" else tokens.states.mean(dim=1)
