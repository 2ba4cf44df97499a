"""Multi-head attention, dense: every query may attend to every key that its mask leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.attention.dot_product import EAGER, ON_GPU, DotProduct
from eir_seq.models.layers.attention.packed import LEAST_BLOCK, packed_attention
from eir_seq.models.layers.attention.scorer import Pairs, Scorer
from eir_seq.models.layers.attention.windows import windows
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.context import Bias, Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import HeadNorm
from eir_seq.models.layers.positions.alibi import Alibi
from eir_seq.models.layers.positions.relative import DistanceBias
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.precision import for_products


class Attention(DotProduct):
    """Scaled dot-product attention over the tokens themselves, or over the memory (https://arxiv.org/abs/1706.03762)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(DotProduct.Config):
        """What varies between architectures.

        `num_kv_heads`: heads of keys and values, each shared by a group of query heads (https://arxiv.org/abs/2305.13245).
        `memory_size`: width of the memory; given, this is cross-attention.
        `scale`: factor on the scores; by default one over the square root of the head size.
        `window`: a query sees itself and tokens nearer than this, with `causal` only those before it.
        `head_norm`: normalizes the heads of queries and keys before they are rotated.
        `distances`: a part that adds to the scores before they are scaled. `alibi`: scores fall with the distance.
        `scorer`: how queries and keys are compared, and what is made of the values.
        """

        hidden_size: int
        num_heads: int
        head_size: int | None = None
        num_kv_heads: int | None = None
        memory_size: int | None = None
        bias: bool = True
        out_bias: bool = True
        causal: bool = False
        scale: float | None = None
        dropout: float = 0.0
        rotary: Rotary | None = None
        window: int | None = None
        head_norm: HeadNorm.Config | None = None
        distances: Part | None = None
        alibi: Alibi | None = None
        scorer: Scorer = Scorer()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.head_size or config.hidden_size // config.num_heads
        self.scale = self.head_size**-0.5 if config.scale is None else config.scale
        inner, shared = config.num_heads * self.head_size, (config.num_kv_heads or config.num_heads) * self.head_size
        source = config.memory_size or config.hidden_size
        self.query = Linear(config.hidden_size, inner, bias=config.bias)
        self.key = Linear(source, shared, bias=config.bias)
        self.value = Linear(source, shared, bias=config.bias)
        self.out = Linear(inner, config.hidden_size, bias=config.out_bias)
        norm, kv_heads = config.head_norm, config.num_kv_heads or config.num_heads
        self.query_norm = norm.build(config.num_heads, self.head_size) if norm else nn.Identity()
        self.key_norm = norm.build(kv_heads, self.head_size) if norm else nn.Identity()
        self.distances = config.distances.build() if config.distances else None

    @property
    def crosses(self) -> bool:
        """Whether keys and values come from the memory."""
        return self.config.memory_size is not None

    @property
    def implementations(self) -> tuple[str, ...]:
        """Those of the scorer; the kernels for packed texts take no biases that differ between texts."""
        found = self.config.scorer.implementations
        biased = self.distances is not None or self.config.alibi is not None
        return tuple(name for name in found if name not in ON_GPU) if biased else found

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        x = for_products(x)
        query = self._rotated(self.query_norm(self.query(x)), ctx)
        if self.crosses:
            return self.out(self._attend(query, *self._memory(ctx), ctx))
        key = self._rotated(self.key_norm(self.key(x)), ctx)
        return self.out(self._attend(query, key, self._values(x, ctx), ctx))

    def _causal(self, ctx: Context) -> bool:  # noqa: ARG002
        """Whether each token sees only itself and those before."""
        return self.config.causal and not self.crosses

    def _visible(self, ctx: Context, queries: int, keys: int) -> Tensor | None:
        """Which of the padded tokens see which, see `Context.mask`."""
        return ctx.mask(queries, keys, causal=self._causal(ctx), window=self.config.window)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))

    def _values(self, x: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        return self._heads(self.value(x))

    def _rotated(self, x: Tensor, ctx: Context) -> Tensor:
        heads, rotary = self._heads(x), self.config.rotary
        if rotary is None or self.crosses:
            return heads
        tables = ctx.once((rotary, self.head_size), lambda: rotary.tables(ctx.positions, self.head_size, ctx.longest))
        return rotary.rotate(heads, *tables)

    def _memory(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory; with a cache they are computed once."""
        assert ctx.memory is not None
        if ctx.cache is not None and (kept := ctx.cache.memory(self)) is not None:
            return kept
        memory = for_products(ctx.memory)
        key, value = self._heads(self.key(memory)), self._heads(self.value(memory))
        if ctx.cache is not None:
            ctx.cache.keep_memory(self, key, value)
        return key, value

    def _bias(self, ctx: Context) -> Bias | None:
        if self.crosses:
            return None
        if (distances := self.distances) is not None:
            return lambda query, key: distances(query, key) * self.scale
        if (alibi := self.config.alibi) is not None:
            return alibi.bias(ctx, self.config.num_heads, self.scale)
        return ctx.bias

    def _biases(self, ctx: Context) -> Sequence[Bias | None]:
        """That of each text, where they are packed."""
        if (alibi := self.config.alibi) is not None and not self.crosses:
            return alibi.biases(ctx, self.config.num_heads, self.scale)
        return [self._bias(ctx)] * len(ctx.layout.lengths)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        """(..., heads, head_size) each -> (..., heads * head_size)."""
        dropout = self.config.dropout if self.training else 0.0
        if ctx.layout.packed:
            return self._attend_packed(query, key, value, ctx, dropout)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        if ctx.cache is not None and not self.crosses:
            key, value = ctx.cache.extend(self, key, value, self.config.window)
        plain = ctx.attentions is None and ctx.head_mask is None and not torch.compiler.is_exporting()
        if self.config.window and plain and self._bias(ctx) is None:
            return self._windowed(query, key, value, ctx, dropout).transpose(1, 2).flatten(2)
        key, value = self._prefixed(key, value, ctx)
        causal = self._causal(ctx)
        if self.crosses:
            real = None if ctx.memory_layout is None else ctx.memory_layout.mask
            mask = None if real is None else F.pad(real, (key.shape[2] - real.shape[1], 0), value=True)[:, None, None]
        else:
            mask = self._visible(ctx, query.shape[2], key.shape[2])
        bias_of = self._bias(ctx)
        bias = None if bias_of is None else bias_of(query, key)
        weights_wanted = ctx.cross_attentions if self.crosses else ctx.attentions
        head_mask = ctx.cross_head_mask if self.crosses else ctx.head_mask
        causal = bool(causal and mask is None and query.shape[2] == key.shape[2])
        scorer, pairs = self.config.scorer, Pairs(mask, bias, causal, dropout)
        if weights_wanted is None and head_mask is None:
            return scorer.attend(self, query, key, value, pairs).transpose(1, 2).flatten(2)
        weights = scorer.weights(self, query, key, pairs)
        dropped = drop(weights, dropout)
        if head_mask is not None:
            dropped = dropped * head_mask[:, None, None]
            weights = weights * head_mask[:, None, None]
        if weights_wanted is not None:
            weights_wanted.append(weights)
        groups = self.config.num_heads // value.shape[1]
        mixed = scorer.mix(self, dropped.to(value.dtype), value.repeat_interleave(groups, 1))
        return mixed.transpose(1, 2).flatten(2)

    def _prefixed(self, key: Tensor, value: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """(batch, heads, keys, head_size) each, after those that every query may attend to, where there are such."""
        return key, value

    def _attend_packed(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context, dropout: float) -> Tensor:
        """(tokens, heads, head_size) each -> (tokens, heads * head_size): one text after the other."""
        causal = self.config.causal and not self.crosses
        queries, keys = ctx.layout, ctx.memory_layout if self.crosses else ctx.layout
        assert keys is not None
        scorer, bias, mixed = self.config.scorer, self._bias(ctx), []
        if scorer.plain and self.attn_implementation != EAGER and (bias is None or isinstance(bias, DistanceBias)):
            lengths, window = (queries.lengths, keys.lengths), self.config.window
            how: dict[str, Any] = {"causal": causal, "window": window, "dropout": dropout, "scale": self.scale}
            how["implementation"] = self.attn_implementation
            return packed_attention(query, key, value, *lengths, bias=bias, **how).flatten(1)
        texts = zip(query.split(queries.lengths), key.split(keys.lengths), value.split(keys.lengths), strict=True)
        for text, bias in zip(texts, self._biases(ctx), strict=True):
            q, k, v = (x.transpose(0, 1)[None] for x in text)
            if self.config.window:
                assert bias is None, "windows have no biases"
                out = self._windowed(q, k, v, ctx, dropout)
            else:
                k, v = self._prefixed(k, v, ctx)
                pairs = Pairs(None, None if bias is None else bias(q, k), causal, dropout)
                out = scorer.attend(self, q, k, v, pairs)
            mixed.append(out[0].transpose(0, 1))
        return torch.cat(mixed).flatten(1)

    def _windowed(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context, dropout: float) -> Tensor:
        """(batch, heads, length, head_size) each -> (batch, heads, queries, head_size), in a window.

        Queries are taken block by block with the keys that some of them see, so a text costs its length times the
        window, not times its length.
        """
        window, count, past = self.config.window, query.shape[2], key.shape[2] - query.shape[2]
        assert window
        mixed, block, causal = [], max(window, LEAST_BLOCK), self.config.causal
        queries = query.split(block, 2)
        pieces = [windows(x, block, window - 1, 0 if causal else window - 1) for x in (key, value)] if not past else []
        for number, start in enumerate(range(0, max(count, 1), block)):  # a text may be empty
            end = min(start + block, count)
            last = end if causal else min(end + window - 1, count)
            seen = slice(max(0, past + start - window + 1), past + last)
            sizes, around = (end - start, seen.stop - seen.start), {"after": count - last, "ahead": last - end}
            mask = ctx.mask(*sizes, causal=causal, window=window, **around)
            whole = causal and mask is None and end - start > 1
            k, v = (x[number] for x in pieces) if pieces else (x[:, :, seen] for x in (key, value))
            pairs = Pairs(mask, None, whole, dropout)
            mixed.append(self.config.scorer.attend(self, queries[number], k, v, pairs))
        return torch.cat(mixed, 2)
