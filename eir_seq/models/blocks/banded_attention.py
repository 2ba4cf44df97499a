"""Attention in a sliding window, with a few global tokens (Longformer, https://arxiv.org/abs/2004.05150).

Texts are cut into blocks as wide as the window reaches to one side; each block looks at itself, at its two neighbours
and at the global tokens. Time and memory grow linearly with the length, and texts of all lengths share one product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.blocks.build import Configured
from eir_seq.models.blocks.context import Context, look_mask
from eir_seq.models.blocks.linear import Linear


@dataclass(frozen=True)
class Blocks:
    """Where tokens stand among blocks, and who may look at whom; the same for all layers of one reach.

    `size`: tokens per block; `place`: (tokens,) slot of each token; `owner`: (blocks,) text of each block;
    `mask`: (blocks, 1, size, globals + 3 size) bool.
    """

    size: int
    place: Tensor
    owner: Tensor
    mask: Tensor

    @classmethod
    def of(cls, reach: int, texts: Texts) -> Blocks:
        """The blocks of these texts where each token sees `reach` tokens to each side."""
        device = texts.lengths.device
        owner, place = placed(reach, texts)
        seen = torch.zeros(len(owner) * reach, dtype=torch.bool, device=device)
        seen = seen.index_copy(0, place, texts.seen).unflatten(0, (-1, reach))
        before, after = F.pad(seen, (0, 0, 1, 0))[:-1], F.pad(seen, (0, 0, 0, 1))[1:]
        same = owner[1:] == owner[:-1]
        before = before & F.pad(same, (1, 0))[:, None]
        after = after & F.pad(same, (0, 1))[:, None]
        row, column = torch.arange(reach, device=device)[:, None], torch.arange(3 * reach, device=device)[None]
        band = (row + reach - column).abs() <= reach
        itself = column == row + reach
        # a slot without a token that is seen looks at itself, so that its weights stay finite
        mask = (band & torch.cat((before, seen, after), 1)[:, None]) | (itself & ~seen[:, :, None])
        if texts.global_place is not None:
            known = texts.global_real[owner][:, None].expand(-1, reach, -1)
            mask = torch.cat((known, mask), -1)
        return cls(reach, place, owner, mask[:, None])

    def cut(self, x: Tensor) -> Tensor:
        """(tokens, heads, head_size) -> (blocks, size, heads, head_size), zero in empty slots."""
        slots = x.new_zeros((len(self.owner) * self.size, *x.shape[1:])).index_copy(0, self.place, x)
        return slots.unflatten(0, (-1, self.size))

    def join(self, x: Tensor) -> Tensor:
        """The inverse of `cut`."""
        return x.flatten(0, 1).index_select(0, self.place)

    def around(self, x: Tensor) -> list[Tensor]:
        """(tokens, heads, head_size) -> thrice (blocks, size, heads, head_size): the block before, itself, behind."""
        cut = self.cut(x)
        nothing = torch.zeros_like(cut[:1])
        return [torch.cat((nothing, cut[:-1])), cut, torch.cat((cut[1:], nothing))]


@dataclass(frozen=True)
class Texts:
    """The texts of a batch one after the other.

    `lengths`: (batch,) tokens per text; `real`: (tokens,) bool; `seen`: (tokens,) bool, real and not global;
    `global_place`: (batch, globals) places of the global tokens, None if there are none; `global_real`: which are any.
    """

    lengths: Tensor
    real: Tensor
    seen: Tensor
    global_place: Tensor | None
    global_real: Tensor

    @classmethod
    def of(cls, ctx: Context) -> Texts:
        """The texts of this pass, in its layout."""
        layout, device = ctx.layout, ctx.positions.device
        rows = layout.lengths or (layout.length,) * layout.batch
        lengths = torch.tensor(rows, device=device)
        everything = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
        mask = everything if layout.mask is None else layout.mask
        real = (layout.pack(mask) if layout.packed else mask.flatten()).bool()
        wanted = ctx.features.get("global_attention_mask")
        if wanted is None or not bool((wanted.bool() & mask).any()):
            return cls(lengths, real, real, None, real[:0])
        is_global = wanted.bool() & mask
        flat = layout.pack(is_global) if layout.packed else is_global.flatten()
        count = is_global.sum(1)
        order = torch.arange(int(count.max()), device=device)
        place = torch.zeros(layout.batch, len(order), dtype=torch.long, device=device)
        filled = order[None] < count[:, None]
        place[filled] = flat.nonzero().squeeze(1)
        return cls(lengths, real, real & ~flat, place, filled)


def placed(size: int, texts: Texts, shift: int = 0) -> tuple[Tensor, Tensor]:
    """Blocks of `size` slots, each text with its own and behind `shift` empty slots: the text of each block (blocks,),
    and the slot of each token (tokens,)."""
    device, lengths = texts.lengths.device, texts.lengths
    counts = (lengths + shift + size - 1) // size
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=device), counts)
    first_slot = (counts.cumsum(0) - counts) * size + shift
    first_token = lengths.cumsum(0) - lengths
    return owner, torch.arange(len(texts.seen), device=device) + (first_slot - first_token).repeat_interleave(lengths)


class BandedAttention(Configured):
    """Each token sees `reach` tokens to each side and all global tokens; a global token sees its whole text.

    Global tokens have projections of their own for looking at others; as keys of others they use the common ones.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
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
        texts: Texts = ctx.once("texts", lambda: Texts.of(ctx))
        flat = x if ctx.layout.packed else x.flatten(0, 1)
        query, key, value = (self._heads(part(flat)) for part in (self.query, self.key, self.value))
        mixed = self._local(query, key, value, texts, ctx)
        if texts.global_place is not None:
            rows = self._global(flat, texts, ctx)
            mixed = mixed.index_copy(0, texts.global_place[texts.global_real], rows)
        return self.out(mixed if ctx.layout.packed else mixed.unflatten(0, x.shape[:2]))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))

    def _local(self, query: Tensor, key: Tensor, value: Tensor, texts: Texts, ctx: Context) -> Tensor:
        """(tokens, heads, head_size) each -> (tokens, hidden)."""
        blocks: Blocks = ctx.once(("blocks", self.config.reach), lambda: Blocks.of(self.config.reach, texts))
        query = blocks.cut(query).transpose(1, 2)
        keys, values = (self._neighbourhood(x, blocks, texts).transpose(1, 2) for x in (key, value))
        dropout = self.config.dropout if self.training else 0.0
        if ctx.attentions is None and ctx.head_mask is None:
            mixed = F.scaled_dot_product_attention(query, keys, values, blocks.mask, dropout, scale=self.scale)
        else:
            weights = self._weights(query @ keys.transpose(-1, -2), blocks.mask, ctx.head_mask)
            if ctx.attentions is not None:
                ctx.attentions.append(published(weights, blocks, texts, ctx))
            mixed = F.dropout(weights, dropout) @ values
        rows = blocks.join(mixed.transpose(1, 2)).flatten(1)
        return rows if ctx.layout.packed or ctx.layout.mask is None else rows * texts.real[:, None]  # as published

    def _neighbourhood(self, x: Tensor, blocks: Blocks, texts: Texts) -> Tensor:
        """(tokens, heads, head_size) -> (blocks, globals + 3 size, heads, head_size): what each block may look at."""
        around = blocks.around(x)
        if texts.global_place is not None:
            around.insert(0, x[texts.global_place][blocks.owner])
        return torch.cat(around, 1)

    def _weights(self, scores: Tensor, mask: Tensor, head_mask: Tensor | None) -> Tensor:
        weights = (scores * self.scale).masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        return weights if head_mask is None else weights * head_mask[:, None, None]

    def _global(self, x: Tensor, texts: Texts, ctx: Context) -> Tensor:
        """States (tokens, hidden) -> what global tokens see (global tokens, hidden)."""
        assert texts.global_place is not None
        rectangle = ctx.layout.pad(x) if ctx.layout.packed else x.unflatten(0, (ctx.layout.batch, -1))
        mask = look_mask(ctx.layout.mask, 1, rectangle.shape[1], causal=False)
        query = self._heads(self.query_global(x[texts.global_place])).transpose(1, 2)
        dropout = self.config.dropout if self.training else 0.0
        spelt_out = ctx.attentions is not None or ctx.head_mask is not None
        if query.shape[2] * self.config.num_heads <= self.config.hidden_size and not spelt_out:
            mixed = self._folded(query, rectangle, mask, dropout)
        else:
            key = self._heads(self.key_global(rectangle)).transpose(1, 2)
            value = self._heads(self.value_global(rectangle)).transpose(1, 2)
            if not spelt_out:
                mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=self.scale)
            else:
                scores = query @ key.transpose(-1, -2)
                everyone = torch.ones((), dtype=torch.bool, device=x.device) if mask is None else mask
                weights = self._weights(scores, everyone, ctx.head_mask)
                if ctx.global_attentions is not None:
                    used = texts.global_real[:, None, :, None]
                    ctx.global_attentions.append((weights * used).transpose(-1, -2))
                mixed = F.dropout(weights, dropout) @ value
        return mixed.transpose(1, 2).flatten(2)[texts.global_real]

    def _folded(self, query: Tensor, states: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        """The same with the projections of keys and values moved to the few queries.

        q (W x + b) = (q W) x + q b, and the weighted sum of W x + b is W applied to the weighted sum of x, plus b:
        no product over all tokens. Gives (batch, heads, globals, head_size).
        """
        heads = self.config.num_heads
        key_weight = self.key_global.whole_weight.unflatten(0, (heads, -1))
        value_weight = self.value_global.whole_weight.unflatten(0, (heads, -1))
        offset = torch.einsum("bhgd,hd->bhg", query, self._heads(self.key_global.bias))[..., None]
        scores = torch.einsum("bhgd,hdc->bhgc", query, key_weight) @ states[:, None].transpose(-1, -2) + offset
        scores = scores * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = F.dropout(scores.softmax(-1), dropout)
        mixed = torch.einsum("bhgc,hdc->bhgd", weights @ states[:, None], value_weight)
        return mixed + weights.sum(-1, keepdim=True) * self._heads(self.value_global.bias)[None, :, None]


def published(weights: Tensor, blocks: Blocks, texts: Texts, ctx: Context) -> Tensor:
    """Weights (blocks, heads, size, others + 3 size) as documented: (batch, heads, length, others + window + 1).

    Rows of tokens that are not seen in the window, global ones and padding, are zero.
    """
    size = blocks.size
    count = weights.shape[-1] - 3 * size
    row = torch.arange(size, device=weights.device)[:, None]
    band = row + torch.arange(2 * size + 1, device=weights.device)[None]
    local = weights[..., count:].gather(-1, band.expand(*weights.shape[:2], -1, -1))
    rows = torch.cat((weights[..., :count], local), -1).transpose(1, 2)
    rows = blocks.join(rows) * texts.seen[:, None, None]
    return rows.unflatten(0, (ctx.layout.batch, -1)).transpose(1, 2)
