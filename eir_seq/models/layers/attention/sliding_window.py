"""Attention in a sliding window, with a few global tokens (Longformer, https://arxiv.org/abs/2004.05150).

Texts are cut into blocks about as long as one side of the window; each block attends to itself, to as many tokens
on both sides and to the global tokens. Time and memory grow linearly with the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.attention.dot_product import SDPA
from eir_seq.models.layers.attention.packed import narrow, packed_attention
from eir_seq.models.layers.attention.windows import KEPT, InPieces, in_layout, piece, starts, texts_of
from eir_seq.models.layers.context import Context, look_mask
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.linear import Linear, linears
from eir_seq.native import attention as native
from eir_seq.native import global_tokens as native_globals


@dataclass(frozen=True)
class Globals:
    """The global tokens of a batch.

    `place`: (batch, globals) where they are among all tokens of the layout, None if there are none. `real`: which of
    these are any. `seen`: (...) bool in the layout, True at real tokens that are none.
    """

    place: Tensor | None
    real: Tensor
    seen: Tensor

    @cached_property
    def places(self) -> tuple[tuple[int, ...], ...] | None:
        """`place` of each text, as numbers."""
        if self.place is None:
            return None
        pairs = zip(self.place.tolist(), self.real.tolist(), strict=True)
        return tuple(tuple(x for x, real in zip(*pair, strict=True) if real) for pair in pairs)

    @cached_property
    def all_real(self) -> bool:
        """Whether all texts have equally many."""
        return bool(self.real.all())

    @cached_property
    def tokens(self) -> Tensor:
        """(globals of all texts,) where they are among all tokens."""
        assert self.place is not None
        return self.place[self.real]

    @classmethod
    def of(cls, ctx: Context) -> Globals:
        """Those of this pass."""
        layout, device = ctx.layout, ctx.positions.device
        everything = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
        mask = everything if layout.mask is None else layout.mask
        wanted = ctx.features.get("global_attention_mask")
        if wanted is not None and torch.compiler.is_exporting():  # any token may be global: their number is data
            is_global = wanted.bool() & mask
            every = torch.arange(layout.batch * layout.length, device=device).unflatten(0, is_global.shape)
            return cls(every, is_global, mask & ~is_global)
        if wanted is None or not bool((wanted.bool() & mask).any()):
            return cls(None, mask[:, :0], layout.pack(mask))
        is_global = wanted.bool() & mask
        count = is_global.sum(1)
        order = torch.arange(int(count.max()), device=device)
        place = torch.zeros(layout.batch, len(order), dtype=torch.long, device=device)
        filled = order[None] < count[:, None]
        place[filled] = layout.pack(is_global).flatten().nonzero().squeeze(1)
        return cls(place, filled, layout.pack(mask & ~is_global))


class SlidingWindowAttention(InPieces):
    """Each token sees `reach` tokens to each side and all global tokens; a global token sees its whole text.

    Global tokens have their own projections for looking at others; as keys of others they use the common ones.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(InPieces.Config):
        """`reach`: tokens seen to each side, half the published attention window."""

        hidden_size: int
        num_heads: int
        reach: int
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.head_size = size // config.num_heads
        self.scale = self.head_size**-0.5
        self.query, self.key, self.value = Linear(size, size), Linear(size, size), Linear(size, size)
        self.query_global, self.key_global = Linear(size, size), Linear(size, size)
        self.value_global = Linear(size, size)
        self.out = Linear(size, size)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        layout = ctx.layout
        marked: Globals = ctx.once("globals", lambda: Globals.of(ctx))
        query, key, value = (self._heads(part) for part in linears((self.query, self.key, self.value), x))
        rows = None if marked.place is None else self._global(x, marked, ctx)
        if self._in_few_calls(query, key, marked, ctx):
            mixed = self._packed(query, key, value, rows, marked, ctx)
        else:
            mixed = self._local(query, key, value, marked, ctx)
            if layout.mask is not None and not layout.packed:
                mixed = mixed * layout.mask[..., None]  # as published
            if rows is not None and torch.compiler.is_exporting():
                mixed = rows.where(marked.real[..., None], mixed)
            elif rows is not None:
                whole = mixed if layout.packed else mixed.flatten(0, 1)
                mixed = whole.index_copy(0, marked.tokens, rows).view_as(mixed)
        return self.out(mixed)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))

    def _in_few_calls(self, query: Tensor, key: Tensor, marked: Globals, ctx: Context) -> bool:
        """Whether `packed_attention` computes what is wanted: every token is real, and no weights are asked for."""
        plain = ctx.attentions is None and ctx.head_mask is None and not torch.compiler.is_compiling()
        has_kernel = native.serves(query, key) and native.few(marked.places)
        plain = plain and (has_kernel or narrow(self.config.reach + 1))
        return plain and self.attn_implementation == SDPA and (ctx.layout.packed or ctx.layout.mask is None)

    def _packed(
        self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, marked: Globals, ctx: Context
    ) -> Tensor:
        """(..., heads, head_size) each, and what global tokens see (globals of all texts, hidden) -> (..., hidden)."""
        layout = ctx.layout
        lengths = layout.lengths if layout.packed else (layout.length,) * layout.batch
        dropout = self.config.dropout if self.training else 0.0
        q, k, v = (x if layout.packed else x.flatten(0, 1) for x in (query, key, value))
        how: dict[str, Any] = {"window": self.config.reach + 1, "dropout": dropout, "scale": self.scale}
        how |= {"shared": marked.places, "own": None if rows is None else self._heads(rows)}
        return packed_attention(q, k, v, lengths, lengths, **how).flatten(1).view(*query.shape[:-2], -1)

    def _local(self, query: Tensor, key: Tensor, value: Tensor, marked: Globals, ctx: Context) -> Tensor:
        """(..., heads, head_size) each -> (..., hidden)."""
        reach, layout = self.config.reach, ctx.layout
        dropout = self.config.dropout if self.training else 0.0
        masks: list[list[Tensor | None]] = ctx.once(
            ("band", reach, query.dtype), lambda: self._masks(marked, ctx, query.dtype)
        )
        shared = None
        if marked.place is not None:
            flat = (x if layout.packed else x.flatten(0, 1) for x in (key, value))
            shared = [x[marked.place].transpose(1, 2) for x in flat]
        mixed, weights = [], None
        for number, text in enumerate(zip(*(texts_of(x, layout) for x in (query, key, value)), strict=True)):
            others = None
            if shared is not None and not self._sees_all(text[0].shape[2], ctx):
                own = slice(number, number + 1) if layout.packed else slice(None)
                others = shared[0][own], shared[1][own]
            bias = masks[number].__getitem__
            seen, weights = self._slide(
                text[0], text[1], text[2], others, bias, ctx, reach=reach, scale=self.scale, dropout=dropout
            )
            mixed.append(seen)
        if ctx.attentions is not None and weights is not None:  # then all texts are one rectangle
            ctx.attentions.append(weights * marked.seen[:, None, :, None])
        return in_layout(mixed, layout)

    def _sees_all(self, length: int, ctx: Context) -> bool:
        """Whether the window of each token of such a text is all of it, so that global tokens are nothing special."""
        return not torch.compiler.is_exporting() and length <= self.config.reach + 1 and ctx.attentions is None

    def _masks(self, marked: Globals, ctx: Context, dtype: torch.dtype) -> list[list[Tensor | None]]:
        """What the tokens of each piece of each text see, (batch or 1, 1, tokens, globals + keys); None: all."""
        layout, reach = ctx.layout, self.config.reach
        size = piece(reach, layout.length)
        found: list[list[Tensor | None]] = []
        texts = [x[None] for x in marked.seen.split(layout.lengths)] if layout.packed else [marked.seen]
        for number, seen in enumerate(texts):
            length = seen.shape[1]
            if self._sees_all(length, ctx):
                found.append([None if layout.packed else look_mask(layout.mask, length, length, causal=False)])
                continue
            own = slice(number, number + 1) if layout.packed else slice(None)
            masks: list[Tensor | None] = []
            for start in starts(length, size):
                first, end = max(0, start - reach), min(length, start + size)
                row, column = (
                    torch.arange(x, y, device=seen.device) for x, y in ((start, end), (first, min(length, end + reach)))
                )
                mask = ((row[:, None] - column).abs() <= reach) & seen[:, None, first : end + reach]
                # a token that is not seen attends to itself, so that its weights stay finite
                mask = mask | ((row[:, None] == column) & ~seen[:, start:end, None])
                if marked.place is not None:
                    mask = torch.cat((marked.real[own, None].expand(-1, end - start, -1), mask), -1)
                if (
                    not torch.compiler.is_exporting() and length <= KEPT
                ):  # torch would make numbers of it in every layer
                    mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
                masks.append(mask[:, None])
            found.append(masks)
        return found

    def _weights(self, scores: Tensor, mask: Tensor, head_mask: Tensor | None) -> Tensor:
        weights = (scores * self.scale).masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        return weights if head_mask is None else weights * head_mask[:, None, None]

    def _global(self, x: Tensor, marked: Globals, ctx: Context) -> Tensor:
        """States -> what global tokens see (globals of all texts, hidden), if exported (batch, globals, hidden)."""
        assert marked.place is not None
        x = x if ctx.layout.packed else x.flatten(0, 1)
        spelled_out = ctx.attentions is not None or ctx.head_mask is not None
        few = (
            not torch.compiler.is_exporting()
            and marked.place.shape[1] * self.config.num_heads <= self.config.hidden_size
        )
        if few and not spelled_out and self._has_kernel(x, ctx):
            return self._by_kernel(x, marked, ctx)
        rows = self._by_place(x, marked.place, marked.real, few and not spelled_out, ctx)
        if torch.compiler.is_exporting():
            return rows
        return rows.flatten(0, 1) if marked.all_real else rows[marked.real]

    def _has_kernel(self, x: Tensor, ctx: Context) -> bool:
        plain = self.query_global.is_bare() and (ctx.layout.packed or ctx.layout.mask is None)
        return plain and native_globals.serves(x)

    def _by_kernel(self, x: Tensor, marked: Globals, ctx: Context) -> Tensor:
        """States (tokens, hidden) -> (globals of all texts, hidden)."""
        assert marked.places is not None
        layout, dropout = ctx.layout, self.config.dropout if self.training else 0.0
        layers = ((part.whole_weight, part.bias) for part in (self.query_global, self.key_global, self.value_global))
        lengths, counts = layout.lengths if layout.packed else (layout.length,) * layout.batch, map(len, marked.places)
        how: dict[str, Any] = {"heads": self.config.num_heads, "dropout": dropout, "scale": self.scale}
        return native_globals.global_tokens(x, marked.tokens, tuple(counts), lengths, *layers, **how)

    def _by_place(self, x: Tensor, place: Tensor, real: Tensor, folded: bool, ctx: Context) -> Tensor:
        """States (tokens, hidden) -> (batch, globals, hidden); see `Globals`."""
        query = self._heads(self.query_global(x.index_select(0, place.flatten())))
        dropout = self.config.dropout if self.training else 0.0
        if folded:
            return self._folded(query, x, dropout, ctx).view(*place.shape, -1)
        rectangle, mask = self._rectangle(x, ctx)
        query = query.unflatten(0, place.shape).transpose(1, 2)
        key = self._heads(self.key_global(rectangle)).transpose(1, 2)
        value = self._heads(self.value_global(rectangle)).transpose(1, 2)
        if ctx.attentions is None and ctx.head_mask is None:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=self.scale)
        else:
            scores = query @ key.transpose(-1, -2)
            everyone = torch.ones((), dtype=torch.bool, device=x.device) if mask is None else mask
            weights = self._weights(scores, everyone, ctx.head_mask)
            if ctx.global_attentions is not None:
                used = real[:, None, :, None]
                ctx.global_attentions.append((weights * used).transpose(-1, -2))
            mixed = drop(weights, dropout) @ value
        return mixed.transpose(1, 2).flatten(2)

    def _rectangle(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """States (tokens, channels) -> (batch, length, channels), and which of them global tokens see."""
        rectangle = ctx.layout.pad(x) if ctx.layout.packed else x.unflatten(0, (ctx.layout.batch, -1))
        return rectangle, look_mask(ctx.layout.mask, 1, rectangle.shape[1], causal=False)

    def _folded(self, query: Tensor, x: Tensor, dropout: float, ctx: Context) -> Tensor:
        """The same with the projections of keys and values moved to the few queries (globals, heads, head_size).

        q (W x + b) = (q [W b]) [x 1], and a weighted sum of W x + b is [W b] times that of [x 1]: no product over all
        tokens. Gives (globals, hidden).
        """
        layout, heads = ctx.layout, self.config.num_heads
        states = F.pad(x, (0, 1), value=1.0)
        key_weight, value_weight = (
            torch.cat((part.whole_weight, part.bias[:, None]), 1).unflatten(0, (heads, -1))
            for part in (self.key_global, self.value_global)
        )
        folded = (query.transpose(0, 1) @ key_weight).transpose(0, 1)
        if layout.packed and native.serves(folded, states):
            queries, keys = folded.flatten(0, 1)[:, None], states[:, None]
            counts = (len(queries) // layout.batch,) * layout.batch
            seen = native.attention(queries, keys, keys, counts, layout.lengths, dropout=dropout, scale=self.scale)
        else:
            rectangle, mask = self._rectangle(states, ctx)
            queries, keys = folded.reshape(layout.batch, 1, -1, folded.shape[-1]), rectangle[:, None]
            seen = self._product(queries, keys, keys, mask, dropout, self.scale)
        mixed = seen.view_as(folded).transpose(0, 1) @ value_weight.transpose(1, 2)
        return mixed.transpose(0, 1).flatten(1)
