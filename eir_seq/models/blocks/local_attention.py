"""Attention to the tokens nearby and to sums of all others (LongT5, https://arxiv.org/abs/2112.07916).

Nearby tokens are looked at block by block, as in `banded_attention`: time and memory grow linearly with the length.
With sums there is one column more per summed block, so that a part grows with length times length / block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.blocks.banded_attention import Blocks, Texts, published
from eir_seq.models.blocks.build import Configured, Sized
from eir_seq.models.blocks.context import Context
from eir_seq.models.blocks.layout import Layout
from eir_seq.models.blocks.linear import Linear
from eir_seq.models.blocks.positions import RelativeBuckets


class BiasTable(Configured):
    """Learned biases by distance, in tokens and, with `sums`, also in summed blocks."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`buckets`: how distances share biases; `sums`: whether there are those of summed blocks."""

        buckets: RelativeBuckets.Config
        sums: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens: RelativeBuckets = config.buckets.build()
        self.sums: RelativeBuckets | None = config.buckets.build() if config.sums else None

    def forward(self) -> Tensor:
        """(2 m + 1, heads), or (2 m + 1, 2 heads) with those of sums behind; from distance -m to m, which is the
        greatest that has a bias of its own."""
        most, device = self.tokens.config.max_distance, self.tokens.table.weight.device
        distance = torch.arange(-most, most + 1, device=device)
        parts = [self.tokens] if self.sums is None else [self.tokens, self.sums]
        return torch.cat([part.table(part.bucket(distance)) for part in parts], -1)


@dataclass(frozen=True)
class Sums:
    """Which tokens are summed: whole blocks of a text, the tokens behind the last one joining it.

    `block`: (tokens,) number of each token's block in its text, -1 for none; `slot`: (tokens,) place of its sum among
    those of all texts, the last place for none; `known`: (batch, sums) bool, those that a text has.
    """

    block: Tensor
    slot: Tensor
    known: Tensor

    @classmethod
    def of(cls, size: int, layout: Layout, device: torch.device) -> Sums:
        """Blocks of `size` places, padding included; only those whose last token is real count as whole."""
        mask = layout.mask
        if mask is None:
            mask = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
        place, count = torch.arange(layout.length, device=device), layout.length // size
        whole = (mask & (place % size == size - 1)).sum(1, keepdim=True)
        block = torch.where(mask, place // size, -1).minimum(whole - 1)
        known = torch.arange(count, device=device) <= block.amax(1, keepdim=True)
        slot = torch.arange(layout.batch, device=device)[:, None] * count + block
        slot = slot.masked_fill(block < 0, layout.batch * count)
        block, slot = (layout.pack(x) if layout.packed else x.flatten() for x in (block, slot))
        return cls(block, slot, known)

    def add(self, x: Tensor) -> Tensor:
        """States (tokens, hidden) -> their sums (batch, sums, hidden), zero where there is none."""
        sums = x.new_zeros((self.known.numel() + 1, x.shape[-1])).index_add(0, self.slot, x)
        return sums[:-1].unflatten(0, self.known.shape)


class LocalAttention(Configured):
    """Each token sees `reach` tokens to each side and, with `summed`, the sum of each block of its text.

    Scores are not scaled; biases by distance are the rows of the context's `position_table` (see `BiasTable`).
    Sums are normed and have the projections of tokens.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`reach`: tokens seen to each side. `summed`: tokens per sum, None for no sums; `norm`: that of sums."""

        hidden_size: int
        num_heads: int
        head_size: int
        reach: int
        norm: Sized
        summed: int | None = None
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        inner = config.num_heads * config.head_size
        self.query, self.key, self.value = (Linear(config.hidden_size, inner, bias=False) for _ in range(3))
        self.out = Linear(inner, config.hidden_size, bias=False)
        self.sum_norm = config.norm.build(config.hidden_size) if config.summed else None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        texts: Texts = ctx.once("texts", lambda: Texts.of(ctx))
        blocks: Blocks = ctx.once("blocks", lambda: Blocks.of(self.config.reach, texts))
        flat = x if ctx.layout.packed else x.flatten(0, 1)
        sums, states = None, None
        if self.config.summed is not None and self.sum_norm is not None:
            summed = self.config.summed
            sums = ctx.once("sums", lambda: Sums.of(summed, ctx.layout, x.device))
            states = self.sum_norm(sums.add(flat))
        query = blocks.cut(self._heads(self.query(flat))).transpose(1, 2)
        keys, values = (self._seen(part, flat, states, blocks) for part in (self.key, self.value))
        bias = ctx.once("bias", lambda: self._bias(ctx, blocks, sums)).to(query.dtype)
        dropout = self.config.dropout if self.training else 0.0
        if ctx.attentions is None and ctx.head_mask is None:
            mixed = F.scaled_dot_product_attention(query, keys, values, bias, dropout, scale=1.0)
        else:
            weights = (query @ keys.transpose(-1, -2) + bias).softmax(-1)
            if ctx.head_mask is not None:
                weights = weights * ctx.head_mask[:, None, None]
            if ctx.attentions is not None:
                ctx.attentions.append(published(weights, blocks, texts, ctx))
            mixed = F.dropout(weights, dropout) @ values
        rows: Tensor = self.out(blocks.join(mixed.transpose(1, 2)).flatten(1))
        return rows if ctx.layout.packed else rows.unflatten(0, x.shape[:2])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.config.head_size))

    def _seen(self, part: Linear, x: Tensor, sums: Tensor | None, blocks: Blocks) -> Tensor:
        """States (tokens, hidden) and sums (batch, sums, hidden) -> (blocks, heads, sums + 3 size, head_size)."""
        seen = blocks.around(self._heads(part(x)))
        if sums is not None:
            seen.insert(0, self._heads(part(sums))[blocks.owner])
        return torch.cat(seen, 1).transpose(1, 2)

    def _bias(self, ctx: Context, blocks: Blocks, sums: Sums | None) -> Tensor:
        """(blocks, heads, size, sums + 3 size), the lowest number where there is nothing to be seen."""
        table, heads, size = ctx.position_table, self.config.num_heads, blocks.size
        assert table is not None
        most, lowest = len(table) // 2, torch.finfo(table.dtype).min
        place = torch.arange(3 * size, device=table.device)
        distance = (place - place[size : 2 * size, None]).clamp(-most, most) + most
        near = table[:, :heads][distance].permute(2, 0, 1).masked_fill(~blocks.mask, lowest)
        if sums is None:
            return near
        distance = torch.arange(sums.known.shape[1], device=table.device) - sums.block[:, None]
        far = table[:, heads:][distance.clamp(-most, most) + most]
        far = (
            blocks.cut(far.transpose(1, 2))
            .transpose(1, 2)
            .masked_fill(~sums.known[blocks.owner][:, None, None], lowest)
        )
        return torch.cat((far, near), -1)
