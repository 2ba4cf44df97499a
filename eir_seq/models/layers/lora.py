"""Adapters of low rank: what a linear layer learns while its own weights stay (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.dropout import Dropout


class Lora(nn.Module):
    """scale * b a x, of a rank far below the sizes of the layer that it adapts.

    Attributes:
        a: (rank, in); the parts of a fused projection share one.
        b: (out, rank).
    """

    def __init__(self, a: nn.Parameter, b: nn.Parameter, *, scale: float, dropout: float) -> None:
        super().__init__()
        self.a, self.b, self.scale = a, b, scale
        self.dropout = Dropout(dropout)

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return self.a.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(F.linear(self.dropout(x), self.a), self.b) * self.scale

    def delta(self) -> Tensor:
        """(out, in): what it comes to as a change of the weight."""
        return self.scale * (self.b @ self.a)
