"""Sparse experts with queues: a token goes through its best two, if these still have room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Gumbel
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.moe.experts import Experts, Times, router_scores

Second = Literal["all", "sampling", "random"]


class BiasedExperts(Experts):
    """With biases, and dropout whose rate is taken off all that they give in evaluation (as published)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Experts.Config):
        """`dropout`: on what experts give."""

        gated: bool = False
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.up_bias = nn.Parameter(torch.empty(config.count, config.inner_size))
        self.down_bias = nn.Parameter(torch.empty(config.count, config.hidden_size))
        self.dropout = Dropout(config.dropout)

    def _through(self, rows: Tensor, times: Times) -> Tensor:
        out = super()._through(rows, times)
        return self.dropout(out) if self.training else out * (1 - self.dropout.p)


class Top2Experts(Configured):
    """A router scores all experts; tokens queue up for their best two, first choices before second ones.

    Sources: https://arxiv.org/abs/2006.16668 (2.2), https://arxiv.org/abs/2207.04672 (6.2.1).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """What varies.

        `capacity`: tokens that an expert takes at most, of all texts of a batch together; None: twice its fair share.
        `evaluated_share`: of the batch's places (padding counts), the same in evaluation; 0 or less: `capacity`.
        `second`: the second expert is taken always, by scores with noise ("sampling"), or with twice its probability
        ("random"). `normalizes_all`: weights add up to one before tokens are turned away, not after.
        `by_importance`: tokens queue up by their best probability, not by their places. `routes_padding`: padding too.
        """

        experts: BiasedExperts.Config
        capacity: int | None
        evaluated_share: float
        second: Second
        normalizes_all: bool
        by_importance: bool
        routes_padding: bool
        router_bias: bool
        router_dtype: torch.dtype

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.router = Linear(config.experts.hidden_size, config.experts.count, bias=config.router_bias)
        self.experts = config.experts.build()

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(..., hidden) -> (..., hidden); the context's list gets the weights of all experts, zero for most."""
        tokens, layout = x.flatten(0, -2), ctx.layout
        real = None
        if layout.mask is not None and not layout.packed and not self.config.routes_padding:
            real = layout.mask.flatten()
        scores = router_scores(self.router, tokens, self.config.router_dtype)
        chosen, weights = self._route(scores, tokens.dtype, real, layout.batch * layout.length)
        if ctx.router_logits is not None:
            every = weights.new_zeros(tokens.shape[0], self.experts.count).scatter(1, chosen, weights)
            ctx.router_logits.append(every.view(*x.shape[:-1], -1))
        mixed: Tensor = self.experts(tokens, chosen.masked_fill(weights == 0, self.experts.count), weights)
        return mixed.view_as(x)

    def _route(self, scores: Tensor, dtype: torch.dtype, real: Tensor | None, places: int) -> tuple[Tensor, Tensor]:
        """(tokens, experts) scores -> the two best experts of each token and their weights, (tokens, 2) each."""
        config = self.config
        probabilities = scores.softmax(-1).to(dtype)
        first = probabilities.argmax(-1, keepdim=True)
        if config.second == "sampling":
            scores = scores + Gumbel(scores.new_zeros(()), scores.new_ones(())).sample(scores.shape)
        chosen = torch.cat((first, scores.scatter(1, first, -math.inf).argmax(-1, keepdim=True)), 1)
        weights = probabilities.gather(1, chosen)
        kept = torch.ones_like(chosen, dtype=torch.bool) if real is None else real[:, None].expand_as(chosen)
        if config.second == "random":
            lucky = 2 * weights[:, 1] > torch.rand_like(weights[:, 1].float())
            kept = torch.stack((kept[:, 0], kept[:, 1] & lucky), 1)
        if config.normalizes_all:
            shares = _shares(weights)
            weights = torch.stack((shares[:, 0], weights[:, 1]), 1) if config.second == "random" else shares
        kept = kept & (self._queues(chosen, kept, probabilities) < self._capacity(places))
        return chosen, (weights if config.normalizes_all else _shares(weights * kept)) * kept

    def _queues(self, chosen: Tensor, kept: Tensor, probabilities: Tensor) -> Tensor:
        """(tokens, 2): how many tokens precede each in the queues of its two experts."""
        dispatched = F.one_hot(chosen, self.experts.count) * kept[..., None]
        if self.config.by_importance:
            order = probabilities.amax(-1).argsort(descending=True, stable=True)
            ranks = dispatched[order].cumsum(0)[order.argsort()]
        else:
            ranks = dispatched.cumsum(0)
        ranks = ranks + torch.stack((torch.zeros_like(dispatched[0, 0]), dispatched[:, 0].sum(0)))
        return ranks.gather(-1, chosen[..., None])[..., 0] - 1

    def _capacity(self, places: int) -> int:
        if not self.training and self.config.evaluated_share > 0:
            return math.ceil(self.config.evaluated_share * places)
        return self.config.capacity or 2 * math.ceil(places / self.experts.count)


def _shares(weights: Tensor) -> Tensor:
    """(tokens, 2) weights that add up to one, or to nothing."""
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).eps)


def share_loss(weights: Tensor) -> Tensor:
    """A scalar that is least where all experts are used alike (https://arxiv.org/abs/2101.03961, 2.2).

    Args:
        weights: (batch, length, experts) of a layer; tokens that no expert takes do not count.
    """
    routed = weights.sum(-1) > 0
    used = F.one_hot(weights.argmax(-1), weights.shape[-1]) * routed[..., None]
    count = routed.sum().clamp(min=1)
    return weights.shape[-1] * ((used.sum((0, 1)) / count) * (weights.sum((0, 1)) / count)).sum()
