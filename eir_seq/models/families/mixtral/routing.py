"""Top-k routing: every token goes through the experts that its router scores highest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.moe.experts import Experts


class TopKExperts(Configured):
    """A router scores all experts; each token goes through the best, weighted by their normalized probabilities."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`per_token`: how many are the best. `jitter`: in training, inputs vary by factors as far as this from one."""

        experts: Experts.Config
        per_token: int
        jitter: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.per_token, self.jitter = config.per_token, config.jitter
        self.router = Linear(config.experts.hidden_size, config.experts.count, bias=False)
        self.experts = config.experts.build()

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(..., hidden) -> (..., hidden)."""
        if self.training and self.jitter:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        scores = self.router(x)
        if ctx.router_logits is not None:
            ctx.router_logits.append(scores)
        probabilities = scores.softmax(-1, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
        weights, chosen = probabilities.flatten(0, -2).topk(self.per_token)
        weights = weights / weights.sum(-1, keepdim=True)
        mixed: Tensor = self.experts(x.flatten(0, -2), chosen, weights.to(x.dtype))
        return mixed.view_as(x)
