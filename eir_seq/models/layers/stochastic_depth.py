"""Stochastic depth: residual branches that training leaves out at random."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Leaves a residual branch out for random rows of a training batch (Huang et al. 2016, arXiv:1603.09382).

    The rows that keep the branch are scaled by ``1 / (1 - probability)``, so that the expected sum is that of
    evaluation, where every row keeps its branch unscaled.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Shape: ``(batch, ...)`` in and out."""
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        rows = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * torch.empty(rows, dtype=branch.dtype, device=branch.device).bernoulli_(keep) / keep
