"""Attention with biases of distances and segments, over a text and what was kept of earlier ones (transformer-xl)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.relative import by_distance


@dataclass
class StreamContext(Context):
    """One stream of states during one pass.

    Attributes:
        distances: one (keys + queries - 1, hidden) table of vectors for the distances from keys - 1 down, or two: for
            the first and the second half of the batch.
        segments: (batch, keys) segment ids, those of cached states first; None if none were given.
        look: (batch or 1, 1, queries, keys) bool of who sees whom among padded tokens; None if everyone does.
        causal: whether a packed token sees only itself and those before.
        kept: (batch, earlier, hidden) states of earlier tokens, input of the current layer.
        source: states that keys and values are made of, where they are not those of the queries.
        mapping: (batch, predictions, length) places of the tokens that queries stand for.
    """

    distances: tuple[Tensor, ...] = ()
    segments: Tensor | None = None
    look: Tensor | None = None
    causal: bool = False
    kept: Tensor | None = None
    source: Tensor | None = None
    mapping: Tensor | None = None


class RelativeAttention(Attention):
    """Scores of contents, of distances and of segments, each with its own bias of the queries.

    Sources: https://arxiv.org/abs/1901.02860, 3.3 (distances), https://arxiv.org/abs/1906.08237, 2.5 (segments).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """As its base."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        heads = (config.num_heads, self.head_size)
        self.distance = Linear(config.hidden_size, config.num_heads * self.head_size, bias=False)
        self.content_bias, self.distance_bias, self.segment_bias = (nn.Parameter(torch.zeros(heads)) for _ in range(3))
        self.segments = nn.Parameter(torch.zeros(2, *heads))

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        assert isinstance(ctx, StreamContext)
        source = x if ctx.source is None else ctx.source
        if ctx.kept is not None:
            source = torch.cat((ctx.kept, source), 1)
        query, key, value = self._heads(self.query(x)), self._heads(self.key(source)), self._heads(self.value(source))
        rows = tuple(self._heads(self.distance(table)).permute(1, 2, 0) for table in ctx.distances)
        if ctx.layout.packed:
            return self.out(self._packed_texts(query, key, value, rows, ctx))
        if ctx.mapping is not None:
            query = torch.einsum("bphd,bpl->blhd", query, ctx.mapping)
        query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
        mixed = self._between(query, key, value, rows, ctx.segments, ctx.look, ctx).transpose(1, 2)
        if ctx.mapping is not None:
            mixed = torch.einsum("blhd,bpl->bphd", mixed, ctx.mapping)
        return self.out(mixed.flatten(2))

    def _packed_texts(
        self, query: Tensor, key: Tensor, value: Tensor, rows: tuple[Tensor, ...], ctx: StreamContext
    ) -> Tensor:
        """(tokens, heads, head_size) each -> (tokens, heads * head_size): one text after the other."""
        lengths, longest = ctx.layout.lengths, ctx.layout.length
        segments = None if ctx.segments is None else ctx.layout.pack(ctx.segments).split(lengths)
        mixed = []
        texts = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
        for place, (n, text) in enumerate(zip(lengths, texts, strict=True)):
            q, k, v = (heads.transpose(0, 1)[None] for heads in text)
            half = rows[place * len(rows) // len(lengths)][..., longest - n : max(longest + n - 1, 0)]
            look = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()[None, None] if ctx.causal else None
            own = None if segments is None else segments[place][None]
            mixed.append(self._between(q, k, v, (half,), own, look, ctx)[0].transpose(0, 1))
        return torch.cat(mixed).flatten(1)

    def _between(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rows: tuple[Tensor, ...],
        segments: Tensor | None,
        look: Tensor | None,
        ctx: StreamContext,
    ) -> Tensor:
        """(batch, heads, length, head_size) each -> (batch, heads, queries, head_size)."""
        positioned = (query + self.distance_bias[:, None]).chunk(len(rows))
        bias = by_distance(torch.cat([part @ half for part, half in zip(positioned, rows, strict=True)]))
        if segments is not None:
            same, other = ((query + self.segment_bias[:, None]) @ self.segments.permute(1, 2, 0)).split(1, -1)
            apart = segments[:, None, -query.shape[2] :, None] != segments[:, None, None, :]
            bias = bias + torch.where(apart, other, same)
        bias, query = bias * self.scale, query + self.content_bias[:, None]
        dropout = self.config.dropout if self.training else 0.0
        scorer, pairs = self.config.scorer, Pairs(look, bias, dropout=dropout)
        if ctx.attentions is None and ctx.head_mask is None:
            return scorer.attend(self, query, key, value, pairs)
        weights = drop(scorer.weights(self, query, key, pairs), dropout)
        if ctx.head_mask is not None:
            weights = weights * ctx.head_mask[:, None, None]
        if ctx.attentions is not None:
            ctx.attentions.append(weights)
        return weights.to(value.dtype) @ value
