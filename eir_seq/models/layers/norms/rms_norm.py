"""Root-mean-square normalization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.residual_sum import HasTerms, NormTerms, native_norm


class RMSNorm(HasTerms):
    """Unit mean square, then scale (https://arxiv.org/abs/1910.07467)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`eps` is added to the mean square."""

        eps: float = 1e-6

        def build(self, size: int) -> RMSNorm:
            """A norm of states of width `size`."""
            return RMSNorm(size, self.eps)

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def terms(self) -> NormTerms:
        """See `NormTerms`."""
        return NormTerms(self.weight, None, self.eps, False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size); the mean square is taken in float32 or better."""
        if (found := native_norm(self, x)) is not None:
            return found
        wide = x if x.dtype == torch.float64 else x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class CenteredRMSNorm(HasTerms):
    """Unit mean square, then scale by one plus a learned excess, all of it in float32 or better (gemma)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`eps` is added to the mean square."""

        eps: float = 1e-6

        def build(self, size: int) -> CenteredRMSNorm:
            """A norm of states of width `size`."""
            return CenteredRMSNorm(size, self.eps)

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.excess = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def terms(self) -> NormTerms:
        """See `NormTerms`."""
        return NormTerms(1 + self.excess, None, self.eps, False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        if (found := native_norm(self, x)) is not None:
            return found
        wide = x if x.dtype == torch.float64 else x.float()
        unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (unit * (1 + self.excess.to(wide.dtype))).to(x.dtype)
