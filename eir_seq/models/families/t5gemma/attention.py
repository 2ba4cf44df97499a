"""Attention of t5gemma: soft-capped scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.attention.dot_product import EAGER
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs, Scored, Scorer
from eir_seq.models.layers.context import Context


def bounded(scores: Tensor, bound: float | None) -> Tensor:
    """Scores whose size approaches `bound` and never exceeds it."""
    return scores if bound is None else bound * torch.tanh(scores / bound)


@dataclass(frozen=True)
class BoundedScorer(Scorer):
    """Scores that are bounded, which torch's kernels cannot do: weights are spelled out where there is a bound."""

    bound: float | None

    @property
    def implementations(self) -> tuple[str, ...]:
        """No kernel bounds scores."""
        return super().implementations if self.bound is None else (EAGER,)

    def scores(self, attention: Scored, query: Tensor, key: Tensor) -> Tensor:
        """See `Scorer`."""
        return bounded(super().scores(attention, query, key), self.bound)

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        compute = super().attend if self.bound is None else self.attend_eagerly
        return compute(attention, query, key, value, pairs)


@dataclass(frozen=True)
class ReaderScorer(BoundedScorer):
    """Spelled out wherever there is a mask, too: kernels give zeros where nothing is seen."""

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        compute = super().attend if pairs.mask is None else self.attend_eagerly
        return compute(attention, query, key, value, pairs)


class ReaderAttention(Attention):
    """A masked token that sees no other one weighs all tokens alike, as published.

    Elsewhere nothing reads the state of a masked token. But the decoder of a `Reader` reads a text moved by one token,
    so that the first token of a text padded on the left is judged by the state of the padding before it.
    """

    def _visible(self, ctx: Context, queries: int, keys: int) -> Tensor | None:
        look = super()._visible(ctx, queries, keys)
        return look if look is None or ctx.keys is None else look & ctx.keys[:, None, None]

    def _windowed(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context, dropout: float) -> Tensor:
        if ctx.layout.packed or ctx.keys is None:
            return super()._windowed(query, key, value, ctx, dropout)
        pairs = Pairs(self._visible(ctx, query.shape[2], key.shape[2]), dropout=dropout)
        return self.config.scorer.attend(self, query, key, value, pairs)
