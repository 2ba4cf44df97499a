"""Switch routing: every token goes through one expert, each of which has a capacity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.moe.experts import Experts, router_scores


class SwitchExperts(Configured):
    """Each token goes through its best expert, weighted by its probability, up to its capacity (arXiv 2101.03961, 2.2).

    Room is counted per text and per call, from the first token on; those that find none come out as zeros.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`capacity`: tokens of a text that an expert takes. `jitter`: see `TopKExperts`. `bias`, `dtype`: of routers.

        `skips_padding`: padding takes no room.
        """

        experts: Experts.Config
        capacity: int
        jitter: float
        bias: bool
        dtype: torch.dtype
        skips_padding: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.router = Linear(config.experts.hidden_size, config.experts.count, bias=config.bias)
        self.experts = config.experts.build()

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        c = self.config
        if self.training and c.jitter:
            x = x * torch.empty_like(x).uniform_(1 - c.jitter, 1 + c.jitter)
        scores = router_scores(self.router, x, c.dtype)
        if ctx.router_logits is not None:
            ctx.router_logits.append(scores)
        weights, chosen = scores.softmax(-1).to(x.dtype).max(-1)
        taken = ctx.layout.pad(F.one_hot(chosen, c.experts.count))
        if c.skips_padding and ctx.layout.mask is not None:
            taken = taken * ctx.layout.mask[..., None]
        fits = ctx.layout.pack(within_capacity(taken, c.capacity)).any(-1)
        chosen = chosen.masked_fill(~fits, c.experts.count)
        mixed: Tensor = self.experts(x.reshape(-1, x.shape[-1]), chosen.view(-1, 1), weights.view(-1, 1))
        return mixed.view_as(x)


def within_capacity(taken: Tensor, capacity: int) -> Tensor:
    """(batch, length, experts), one where a token goes to an expert -> zero where the expert has no more room."""
    return taken * (taken.cumsum(1) <= capacity)
