"""Scorers: how attention compares queries with keys and what it makes of the values, handed to `Attention`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from eir_seq.models.layers.attention.dot_product import EAGER, IMPLEMENTATIONS, causal_mask
from eir_seq.models.layers.dropout import drop


class Pairs(NamedTuple):
    """What holds for the pairs of queries and keys of one call.

    Attributes:
        mask: bool, True where a query may look, broadcastable to (batch, heads, queries, keys); None: everywhere.
        bias: what is added to the scores, broadcastable to the same.
        causal: each query sees the keys up to its own position; only without a mask.
        dropout: probability that a weight is set to zero.
    """

    mask: Tensor | None = None
    bias: Tensor | None = None
    causal: bool = False
    dropout: float = 0.0

    def visible(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Which keys each query may attend to, as a mask; None: all."""
        return causal_mask(query, key) if self.causal else self.mask


class Scored(Protocol):
    """The attention that a scorer computes for."""

    scale: float

    def _product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        scale: float,
        *,
        causal: bool = False,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Scorer:
    """Scaled dot products, softmax, weighted sums of the values; by torch's kernels, unless weights are wanted.

    Queries, keys and values have shape (batch, heads, length, head_size); there may be fewer heads of keys and values,
    each shared by a group of query heads. A scorer keeps no state, so that one may serve all layers.
    """

    @property
    def implementations(self) -> tuple[str, ...]:
        """Which attention implementations can compute it."""
        return IMPLEMENTATIONS

    @property
    def plain(self) -> bool:
        """Whether `attend` is that of all scorers, so that texts may be packed for it."""
        return type(self).attend is Scorer.attend

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """Queries, keys and values -> (batch, heads, queries, head_size)."""
        mask = pairs.mask
        if (bias := pairs.bias) is not None:
            mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
        if isinstance(mask, Tensor) and mask.is_floating_point():
            mask = mask.to(query.dtype)
        return attention._product(query, key, value, mask, pairs.dropout, attention.scale, causal=pairs.causal)

    def attend_eagerly(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """The same by way of the weights, for scorers that no kernel can compute."""
        weights = drop(self.weights(attention, query, key, pairs), pairs.dropout).to(value.dtype)
        return self.mix(attention, weights, value.repeat_interleave(query.shape[1] // value.shape[1], 1))

    def weights(self, attention: Scored, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """(batch, heads, queries, keys) attention weights, without dropout."""
        scores = self.scores(attention, query, key.repeat_interleave(query.shape[1] // key.shape[1], 1))
        scores = scores if pairs.bias is None else scores + pairs.bias
        look = pairs.visible(query, key)
        scores = scores if look is None else scores.masked_fill(~look, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)

    def scores(self, attention: Scored, query: Tensor, key: Tensor) -> Tensor:
        """Queries and as many heads of keys -> (batch, heads, queries, keys), before biases and masks."""
        return query @ key.transpose(-1, -2) * attention.scale

    def mix(self, attention: Scored, weights: Tensor, value: Tensor) -> Tensor:  # noqa: ARG002
        """(batch, heads, queries, keys) weights and as many heads of values -> (batch, heads, queries, head_size)."""
        return weights @ value


@dataclass(frozen=True)
class Float32Scorer(Scorer):
    """Scores in float32 also under mixed precision, where weights are wanted.

    Torch's kernels, which compute without showing weights, keep scores in float32 always.
    """

    def scores(self, attention: Scored, query: Tensor, key: Tensor) -> Tensor:
        """See `Scorer`."""
        with torch.autocast(query.device.type, enabled=False):
            return query.float() @ key.float().transpose(-1, -2) * attention.scale


@dataclass(frozen=True)
class EagerScorer(Scorer):
    """A scorer that no kernel can compute: always by way of the weights."""

    @property
    def implementations(self) -> tuple[str, ...]:
        """Weights are spelled out."""
        return (EAGER,)

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        return self.attend_eagerly(attention, query, key, value, pairs)
