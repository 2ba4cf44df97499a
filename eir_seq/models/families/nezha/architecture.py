"""Nezha (https://arxiv.org/abs/1909.00204)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.plan import bert_attention, bert_plan
from eir_seq.models.families.nezha.options import NezhaConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import EagerScorer, Pairs
from eir_seq.models.layers.context import Bias, Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.positions.absolute import SinusoidalPositions
from eir_seq.models.layers.positions.relative import distances


@dataclass(frozen=True)
class DistanceScorer(EagerScorer):
    """Values, too, have a sinusoid of the distance, which no kernel knows."""

    def attend(self, attention: Any, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        return self.mix(attention, drop(self.weights(attention, query, key, pairs), pairs.dropout), value)

    def mix(self, attention: Any, weights: Tensor, value: Tensor) -> Tensor:
        """See `Scorer`."""
        sinusoids = attention.sinusoids.to(value.dtype)
        rows = attention.rows(weights.shape[2], weights.shape[3], value.device).expand_as(weights)
        by_distance = weights.new_zeros(*weights.shape[:3], len(sinusoids)).scatter_add(-1, rows, weights)
        return weights @ value + by_distance @ sinusoids


class DistanceAttention(Attention):
    """Attention with a sinusoid per clipped distance added to each key and each value (section 2.2).

    Sinusoids depend on the distance alone. So a query is multiplied with each sinusoid once, and weights are summed by
    distance before they meet the sinusoids: no vector per pair of tokens is ever made.
    """

    config: Config

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`reach`: greatest distance that is distinguished from farther ones."""

        reach: int

    def __init__(self, config: Config) -> None:
        super().__init__(replace(config, scorer=DistanceScorer()))
        self.sinusoids = torch.empty(0)  # of the pass that is under way: layers share one table

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        self.sinusoids = ctx.once(("sinusoids", self.config.reach, self.head_size), lambda: self._table(x.device))
        return super().forward(x, ctx)

    def _table(self, device: torch.device) -> Tensor:
        """(2 * reach + 1, head_size), from the farthest token before to the farthest after it."""
        return SinusoidalPositions.sinusoids(torch.arange(2 * self.config.reach + 1, device=device), self.head_size)

    def rows(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """(queries, keys) rows of the table."""
        reach = self.config.reach
        return distances(queries, keys, device).clamp(-reach, reach) + reach

    def _bias(self, ctx: Context) -> Bias:  # noqa: ARG002
        return self._key_term

    def _key_term(self, query: Tensor, key: Tensor) -> Tensor:
        by_distance = query @ self.sinusoids.to(query.dtype).T * self.scale
        rows = self.rows(query.shape[2], key.shape[2], query.device)
        return by_distance.gather(-1, rows.expand(*query.shape[:2], -1, -1))


def nezha_plan(c: NezhaConfig, *, pooler: bool = True) -> StackPlan:
    """Bert without a table of positions; attention goes by distances."""
    mixer = DistanceAttention.Config(**vars(bert_attention(c)), reach=c.max_relative_position)
    return bert_plan(c, pooler=pooler, positions=False, mixer=mixer)


NEZHA = replace(
    bert_like("Nezha", "nezha", nezha_plan, own={"causal-lm": None}),
    # old files hold the sinusoids of every pair of positions, once per layer
    ignored=(r"relative_positions_encoding\.positions_encoding$",),
)
