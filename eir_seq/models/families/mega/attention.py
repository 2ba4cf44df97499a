"""Attention with one head and a gate that reads a moving average (Mega, https://arxiv.org/abs/2209.10655)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.families.mega.moving_average import ExponentialMovingAverage
from eir_seq.models.families.mega.text_dropout import TextDropout
from eir_seq.models.layers.build import Configured, Part
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.left_aligned import LeftAligned
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.relative import by_distance
from eir_seq.models.layers.positions.rope_scaling import inverse_frequencies

LAPLACE_MEAN, LAPLACE_DEVIATION = 0.707107, 0.282095
"""Where the curve is closest to that of squared rectifiers, as published weights were trained."""


def laplace(x: Tensor) -> Tensor:
    """A bounded curve in place of squared rectifiers (equation 16)."""
    return 0.5 * (1 + torch.erf((x - LAPLACE_MEAN) / (LAPLACE_DEVIATION * 2**0.5)))


class SimpleDistances(Configured):
    """A learned number per distance."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`max_positions`: distances of the table are below it; `longest`: whose middle is that of such a text."""

        max_positions: int
        longest: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.longest = config.longest
        self.table = nn.Parameter(torch.empty(2 * config.max_positions - 1))

    def forward(self, length: int) -> Tensor:
        """(2 * length - 1,) for the distances (key minus query) of a text.

        Raises:
            ValueError: there are not that many.
        """
        if length > self.longest:
            raise ValueError(f"a text of {length} tokens: distances are known up to {self.longest} tokens")
        return self.table[self.longest - length : self.longest + length - 1]


class RotaryDistances(Configured):
    """The product of two learned vectors, each rotated by the position of its token."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`size`: width of the vectors, even."""

        size: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, config.size))
        self.key = nn.Parameter(torch.empty(1, config.size))

    def forward(self, length: int) -> Tensor:
        """(2 * length - 1,) for the distances (key minus query) of a text; it only depends on them."""
        distance = torch.arange(1 - length, length, device=self.query.device)
        angles = distance[:, None] * inverse_frequencies(10000.0, self.query.shape[1], self.query.device)
        (a, b), (c, d) = self.query[0].chunk(2), self.key[0].chunk(2)
        return (angles.cos() * (a * c + b * d) + angles.sin() * (b * c - a * d)).sum(1)


class MegaAttention(Configured):
    """Queries, keys, a gate and an update are made of a moving average of the states, values of the states.

    Queries and keys are one projection, scaled and moved in two ways. The update mixes into the residual stream.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """What varies.

        `shared_size`: width of queries and keys; `inner_size`: of values. `distances`: what is added to scores.
        `weighting`: softmax, or laplace or relu2, which weigh each key by itself. `chunk`: tokens attend to their own
        chunk of that many, None for all of the text. `dropout`: on the average and on the update. `drops_channels`: of
        states, for a whole text.
        """

        average: ExponentialMovingAverage.Config
        shared_size: int
        inner_size: int
        distances: Part
        weighting: str
        chunk: int | None
        causal: bool
        activation: str
        dropout: float
        value_dropout: float
        weight_dropout: float
        drops_channels: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden, shared, inner = config.average.hidden_size, config.shared_size, config.inner_size
        self.average = config.average.build()
        self.sizes = (hidden, shared, inner, hidden)
        self.value = Linear(hidden, inner)
        self.entry = Linear(hidden, sum(self.sizes))
        self.out = Linear(inner, hidden)
        self.query_key_scale = nn.Parameter(torch.empty(2, shared))
        self.query_key_shift = nn.Parameter(torch.zeros(2, shared))
        self.distances = config.distances.build()
        self.activation = activation(config.activation)
        self.weigh = laplace if config.weighting == "laplace" else activation("relu2")
        self.dropout = TextDropout(config.dropout, config.drops_channels)
        self.value_dropout = TextDropout(config.value_dropout, config.drops_channels)

    def forward(self, x: Tensor, residual: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout, as they are read, and the residual stream -> that stream, updated."""
        config, layout = self.config, ctx.layout
        chunk = config.chunk if ctx.cache is None else None
        rows = LeftAligned.of(ctx, chunk if chunk and chunk < layout.length else 1)
        value = self.value_dropout(self.activation(self.value(x)), layout)
        average = self.dropout(self.average(x, rows, ctx.cache), layout)
        share, shared, gate, update = self.entry(average).split(self.sizes, -1)
        query_key = F.silu(shared).unsqueeze(-2) * self.query_key_scale + self.query_key_shift
        query, key = query_key.unbind(-2)
        mixed = self._mixed(query, key, value, rows, ctx) if ctx.cache is None else self._next(query, key, value, ctx)
        update = self.activation(update + self.out(mixed * F.silu(gate)))
        return residual + torch.sigmoid(share) * (self.dropout(update, layout) - residual)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, rows: LeftAligned, ctx: Context) -> Tensor:
        """States of the context's layout -> averages of values in that layout, chunk by chunk."""
        length, causal, whole = rows.real.shape[1], self.config.causal, ctx.layout.length
        size = min(self.config.chunk or length, length)
        query, key, value = (rows.spread(x, blank=False).unflatten(1, (-1, size)) for x in (query, key, value))
        real = rows.real.unflatten(1, (-1, size))
        count = real.cumsum(-1)[..., None] if causal else real.sum(-1)[..., None, None]
        if self.config.weighting == "softmax":
            real = real | ~real.any(-1, keepdim=True)  # a chunk without a text attends to itself
        look = real[..., None, :]
        look = look & look.new_ones(size, size).tril() if causal else look
        bias = by_distance(self.distances(size).expand(size, -1))
        weights = self._weights(query, key, bias, look, count, ctx)
        if ctx.attentions is not None:
            shown = weights
            if size >= whole:  # in the order of the tokens; those of chunks in the order of chunks
                shown = rows.collect(rows.collect(weights[:, 0]).mT).mT[:, None]
            ctx.attentions.append(shown)
        return rows.collect((self._dropped(weights) @ value).flatten(1, 2))

    def _next(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        """The same for tokens (batch, new, width) after those that the cache holds.

        Only the last tokens are kept if all attend to chunks, and queries are taken as many at once.
        """
        assert ctx.cache is not None
        new, chunk = query.shape[1], self.config.chunk
        total = ctx.cache.length + new
        real = torch.ones(1, total, dtype=torch.bool, device=query.device) if ctx.keys is None else ctx.keys
        held = ctx.cache.extend(self, key[:, None], value[:, None], chunk)
        key, value = held[0].squeeze(1), held[1].squeeze(1)
        place = torch.arange(total, device=query.device) - real.int().argmax(1, keepdim=True)  # 0 at the first token
        place, real = place[:, -key.shape[1] :], real[:, -key.shape[1] :]
        bias = self.distances(min(total, chunk or total))
        middle, earlier, mixed = len(bias) // 2, key.shape[1] - new, []
        step = chunk if chunk and ctx.attentions is None else total
        for start in range(0, new, step):
            end = min(start + step, new)
            seen = slice(max(0, earlier + start - step + 1), earlier + end)
            own, other = place[:, earlier + start : earlier + end, None], place[:, None, seen]
            look = real[:, None, seen] & (other <= own)
            if chunk is not None:
                look = look & (other // chunk == own // chunk)
            added = bias[(other - own).clamp(-middle, middle) + middle]
            weights = self._weights(query[:, start:end], key[:, seen], added, look, look.sum(-1, keepdim=True), ctx)
            mixed.append(self._dropped(weights) @ value[:, seen])
        if ctx.attentions is not None:
            ctx.attentions.append(weights[:, None])
        return torch.cat(mixed, 1)

    def _weights(self, query: Tensor, key: Tensor, bias: Tensor, look: Tensor, count: Tensor, ctx: Context) -> Tensor:
        """(..., queries, keys); `count`: keys that a query may attend to."""
        if self.config.weighting == "softmax":
            scores = (query * self.config.shared_size**-0.5) @ key.mT + bias.to(query.dtype)
            weights = scores.masked_fill(~look, torch.finfo(scores.dtype).min).softmax(-1)
        else:
            weights = self.weigh(query @ key.mT / count.clamp(min=1) + bias.to(query.dtype)) * look
        weights = weights.to(query.dtype)
        return weights if ctx.head_mask is None else weights * ctx.head_mask

    def _dropped(self, weights: Tensor) -> Tensor:
        return drop(weights, self.config.weight_dropout, self.training)
