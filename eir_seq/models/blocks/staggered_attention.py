"""Attention within blocks and to global tokens (PEGASUS-X, https://arxiv.org/abs/2208.04347).

Every other layer has its blocks half a block further in front, so that what one layer keeps apart meets in the next.
Time and memory grow linearly with the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.blocks.banded_attention import Blocks, Texts, placed
from eir_seq.models.blocks.build import Configured
from eir_seq.models.blocks.context import Context
from eir_seq.models.blocks.linear import Linear


def separate(size: int, shift: int, texts: Texts, others: int) -> Blocks:
    """Blocks that see themselves and `others` besides, behind `shift` empty places; their mask has one row for all."""
    owner, place = placed(size, texts, shift)
    seen = torch.zeros(len(owner) * size, dtype=torch.bool, device=place.device).index_copy(0, place, texts.real)
    return Blocks(size, place, owner, F.pad(seen.unflatten(0, (-1, size)), (others, 0), value=True)[:, None, None])


class StaggeredAttention(Configured):
    """Tokens see those of their block and all global tokens; global tokens see each other and the whole text."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`size`: tokens per block; `shift`: how many fewer the first block of a text has."""

        hidden_size: int
        num_heads: int
        size: int
        shift: int = 0
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_heads
        width = config.hidden_size
        self.query, self.key, self.value, self.out = (Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, shared: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """States of the context's layout and of global tokens (batch, globals, hidden) -> the same."""
        texts: Texts = ctx.once("texts", lambda: Texts.of(ctx))
        size, shift, count = self.config.size, self.config.shift, shared.shape[1]
        blocks: Blocks = ctx.once(("blocks", shift), lambda: separate(size, shift, texts, count))
        flat = x if ctx.layout.packed else x.flatten(0, 1)
        query, key, value = (self._heads(part(flat)) for part in (self.query, self.key, self.value))
        own_query, own_key, own_value = (self._heads(part(shared)) for part in (self.query, self.key, self.value))

        keys, values = (
            torch.cat((own[blocks.owner], blocks.cut(x)), 1) for own, x in ((own_key, key), (own_value, value))
        )
        mixed, weights = self._mixed(blocks.cut(query), keys, values, blocks.mask, ctx)
        mixed = self.out(blocks.join(mixed).flatten(1))
        if ctx.attentions is not None and weights is not None:
            rows = blocks.join(weights.transpose(1, 2))
            ctx.attentions.append(rows.unflatten(0, (ctx.layout.batch, -1)).transpose(1, 2))

        keys, values = (torch.cat((own, self._rows(x, ctx)), 1) for own, x in ((own_key, key), (own_value, value)))
        mask = None if ctx.layout.mask is None else F.pad(ctx.layout.mask, (count, 0), value=True)[:, None, None]
        gathered, weights = self._mixed(own_query, keys, values, mask, ctx)
        if ctx.global_attentions is not None and weights is not None:
            ctx.global_attentions.append(weights)
        return mixed if ctx.layout.packed else mixed.unflatten(0, x.shape[:2]), self.out(gathered.flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))

    @staticmethod
    def _rows(x: Tensor, ctx: Context) -> Tensor:
        return ctx.layout.pad(x) if ctx.layout.packed else x.unflatten(0, (ctx.layout.batch, -1))

    def _mixed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, ctx: Context
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, length, heads, head_size) each -> the same and, where they are asked for, the weights."""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        dropout = self.config.dropout if self.training else 0.0
        if ctx.attentions is None and ctx.head_mask is None:
            return F.scaled_dot_product_attention(query, key, value, mask, dropout).transpose(1, 2), None
        scores = query @ key.transpose(-1, -2) * self.head_size**-0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if ctx.head_mask is not None:
            weights = weights * ctx.head_mask[:, None, None]
        return (F.dropout(weights, dropout) @ value).transpose(1, 2), weights
