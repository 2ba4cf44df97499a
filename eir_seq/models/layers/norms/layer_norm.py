"""Layer normalization: over the channels of a state, or of each head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.residual_sum import HasTerms, NormTerms, native_norm


class LayerNorm(nn.LayerNorm, HasTerms):
    """Zero mean and unit variance, then scale and shift (https://arxiv.org/abs/1607.06450)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`bias`: whether there is a shift."""

        eps: float = 1e-5
        bias: bool = True

        def build(self, size: int) -> LayerNorm:
            """A norm of states of width `size`."""
            return LayerNorm(size, eps=self.eps, bias=self.bias)

    def terms(self) -> NormTerms:
        """See `NormTerms`."""
        return NormTerms(self.weight, self.bias, self.eps, True)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        found = native_norm(self, x)
        return super().forward(x) if found is None else found


class HeadNorm(nn.Module):
    """Zero mean and unit variance over the channels of each head, then scale and shift."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`per_head`: each head has its own scale and shift; else all share one. `bias`: whether there is a shift."""

        eps: float = 1e-5
        per_head: bool = False
        bias: bool = True

        def build(self, heads: int, head_size: int) -> HeadNorm:
            """A norm of `heads` heads side by side."""
            return HeadNorm(self, heads, head_size)

    def __init__(self, config: Config, heads: int, head_size: int) -> None:
        super().__init__()
        shape = (heads, head_size) if config.per_head else (head_size,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if config.bias else None
        self.heads, self.eps = heads, config.eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., heads * head_size) -> the same; computed in float32 or better."""
        wide = (x if x.dtype == torch.float64 else x.float()).unflatten(-1, (self.heads, -1))
        scaled = F.layer_norm(wide, wide.shape[-1:], eps=self.eps) * self.weight
        return (scaled if self.bias is None else scaled + self.bias).flatten(-2).to(x.dtype)
