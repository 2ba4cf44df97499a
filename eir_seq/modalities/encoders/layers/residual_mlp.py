"""Residual feed-forward blocks on one vector per row."""

from __future__ import annotations

from torch import Tensor, nn

from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.stochastic_depth import StochasticDepth


class ResidualMlp(nn.Module):
    """A projection, pre-norm residual feed-forward blocks and a final norm: (batch, in_size) -> (batch, hidden_size).

    Each block adds ``down(dropout(gelu(up(norm(x)))))``, which stochastic depth leaves out for random rows in training.

    Args:
        in_size: width of what is read.
        hidden_size: width of the blocks.
        num_layers: how many there are.
        dropout: within each block, and on what it adds.
        stochastic_depth: probability that a row of a training batch skips a block.

    Example:
        >>> import torch
        >>> ResidualMlp(3, hidden_size=8, num_layers=2)(torch.ones(4, 3)).shape
        torch.Size([4, 8])
    """

    def __init__(
        self, in_size: int, *, hidden_size: int, num_layers: int, dropout: float = 0.0, stochastic_depth: float = 0.0
    ) -> None:
        super().__init__()
        self.project = nn.Linear(in_size, hidden_size)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_size),
                nn.Linear(hidden_size, hidden_size),
                nn.GELU(),
                Dropout(dropout),
                nn.Linear(hidden_size, hidden_size),
                Dropout(dropout),
                StochasticDepth(stochastic_depth),
            )
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_size) -> (batch, hidden_size)."""
        x = self.project(x)
        for branch in self.branches:
            x = x + branch(x)
        normed: Tensor = self.final_norm(x)
        return normed
