"""Attention to the tokens nearby and to sums of all others (LongT5, https://arxiv.org/abs/2112.07916).

Nearby tokens are attended to piece by piece, as in `sliding_window`: time and memory grow linearly with the length.
With sums there is one column more per summed block, so that a part grows with length times length / block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.layers.attention.windows import InPieces, in_layout, piece, texts_of
from eir_seq.models.layers.build import Configured, Sized
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.relative import RelativeBuckets


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
        """(2 m + 1, heads), or (2 m + 1, 2 heads) with those of sums last; from distance -m to m, which is the
        greatest that has its own bias."""
        most, device = self.tokens.config.max_distance, self.tokens.table.weight.device
        distance = torch.arange(-most, most + 1, device=device)
        parts = [self.tokens] if self.sums is None else [self.tokens, self.sums]
        return torch.cat([part.table(part.bucket(distance)) for part in parts], -1)


@dataclass(frozen=True)
class Sums:
    """Which tokens are summed: whole blocks of a text, the tokens after the last one joining it.

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
        """States (tokens, hidden) -> their sums (batch, sums, hidden), zero if there is none."""
        sums = x.new_zeros((self.known.numel() + 1, x.shape[-1])).index_add(0, self.slot, x)
        return sums[:-1].unflatten(0, self.known.shape)


class LocalAttention(InPieces):
    """Each token sees `reach` tokens to each side and, with `summed`, the sum of each block of its text.

    Scores are not scaled; biases by distance are the rows of the context's `position_table` (see `BiasTable`).
    Sums are normed and have the projections of tokens.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(InPieces.Config):
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
        layout, table = ctx.layout, ctx.position_table
        assert table is not None
        flat = x if layout.packed else x.flatten(0, 1)
        sums, shared = None, None
        if self.config.summed is not None and self.sum_norm is not None:
            summed = self.config.summed
            sums = ctx.once("sums", lambda: Sums.of(summed, layout, x.device))
            states = self.sum_norm(sums.add(flat))
            shared = [self._heads(part(states)).transpose(1, 2) for part in (self.key, self.value)]
        texts = zip(
            *(texts_of(self._heads(part(x)), layout) for part in (self.query, self.key, self.value)), strict=True
        )
        dropout = self.config.dropout if self.training else 0.0
        size = piece(self.config.reach, layout.length)
        near = ctx.once("near", lambda: self._near(table, size)).to(x.dtype)
        mixed, weights = [], None
        for number, text in enumerate(texts):
            own = slice(number, number + 1) if layout.packed else slice(None)
            others = None if shared is None else (shared[0][own], shared[1][own])
            bias = partial(self._bias, near, table, sums, number, text[0].shape[2], ctx)
            how: dict[str, Any] = {
                "reach": self.config.reach,
                "scale": 1.0,
                "dropout": dropout,
                "learned": table.requires_grad,
            }
            seen, weights = self._slide(text[0], text[1], text[2], others, bias, ctx, **how)
            mixed.append(seen)
        if ctx.attentions is not None and weights is not None:  # then all texts are one rectangle
            ctx.attentions.append(weights if layout.mask is None else weights * layout.mask[:, None, :, None])
        return self.out(in_layout(mixed, layout))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.config.head_size))

    def _near(self, table: Tensor, size: int) -> Tensor:
        """(heads, size, size + 2 reach) for a whole piece: biases by distance, the lowest number out of reach."""
        most, reach = len(table) // 2, self.config.reach
        place = torch.arange(size + 2 * reach, device=table.device) - reach
        distance = place - place[reach : reach + size, None]
        bias = table[:, : self.config.num_heads][distance.clamp(-most, most) + most].permute(2, 0, 1)
        return bias.masked_fill(distance.abs() > reach, torch.finfo(table.dtype).min)

    def _bias(
        self, near: Tensor, table: Tensor, sums: Sums | None, text: int, length: int, ctx: Context, number: int
    ) -> Tensor:
        """(batch or 1, heads, tokens, sums + keys) of a piece of a text, the lowest number where nothing is seen."""
        reach, layout, lowest = self.config.reach, ctx.layout, torch.finfo(near.dtype).min
        start = number * near.shape[1]
        first, end = max(0, start - reach), min(length, start + near.shape[1])
        last = min(length, end + reach)
        bias = near[None, :, : end - start, first - start + reach : last - start + reach]
        if layout.mask is not None and not layout.packed:
            bias = bias.masked_fill(~layout.mask[:, None, None, first:last], lowest)
        if sums is None:
            return bias
        begin = sum(layout.lengths[:text]) if layout.packed else 0
        block = sums.block[begin : begin + length][None] if layout.packed else sums.block.view(layout.batch, -1)
        known = sums.known[text, None] if layout.packed else sums.known
        most = len(table) // 2
        distance = torch.arange(known.shape[1], device=table.device) - block[:, start:end, None]
        far = table[:, self.config.num_heads :][distance.clamp(-most, most) + most].permute(0, 3, 1, 2)
        far = far.to(bias.dtype).masked_fill(~known[:, None, None], lowest)
        return torch.cat((far, bias.expand(far.shape[0], -1, -1, -1)), -1)
