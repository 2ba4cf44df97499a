"""Attention within blocks and to global tokens (PEGASUS-X, https://arxiv.org/abs/2208.04347).

Every other layer has its blocks half a block earlier, so that what one layer keeps apart meets in the next.
Time and memory grow linearly with the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.attention.windows import InPieces, in_layout, texts_of
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear

Parts = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""


class BlockLocalAttention(InPieces):
    """Tokens see those of their block and all global tokens; global tokens see each other and the whole text."""

    @dataclass(frozen=True, kw_only=True)
    class Config(InPieces.Config):
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
        layout, parts = ctx.layout, (self.query, self.key, self.value)
        of_globals = [self._heads(part(shared)).transpose(1, 2) for part in parts]
        texts = zip(*(texts_of(self._heads(part(x)), layout) for part in parts), strict=True)
        mixed, gathered = [], []
        for number, text in enumerate(texts):
            own = slice(number, number + 1) if layout.packed else slice(None)
            seen, of_all = self._one(text, (of_globals[0][own], of_globals[1][own], of_globals[2][own]), ctx)
            mixed.append(seen)
            gathered.append(of_all)
        return self.out(in_layout(mixed, layout)), self.out(torch.cat(gathered).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))

    def _one(self, text: Parts, shared: Parts, ctx: Context) -> tuple[Tensor, Tensor]:
        """Queries, keys and values of texts and of global tokens, (batch, heads, tokens, head_size) each."""
        length, count, size = text[0].shape[2], shared[0].shape[2], self.config.size
        if torch.compiler.is_exporting() and ctx.attentions is not None:
            raise ValueError("output_attentions: an exported program has no weights by blocks")
        how: dict[str, Any] = {"scale": self.head_size**-0.5, "dropout": self.config.dropout if self.training else 0.0}
        masked = ctx.layout.mask is not None and not ctx.layout.packed
        look = F.pad(ctx.layout.mask, (count, 0), value=True)[:, None, None] if masked else None  # type: ignore[arg-type]
        own = self._own_block(count, length, text[0].device) if torch.compiler.is_exporting() else None
        mixed, shown, start, space = [], [], 0, self.config.shift
        for query, key, value in zip(*(self._blocks(x) for x in text), strict=True):
            end = count + start + query.shape[2]
            mask = None if look is None else torch.cat((look[..., :count], look[..., count + start : end]), -1)
            if own is not None:
                mask = own if mask is None else mask & own
            keys, values = (shared[1], key), (shared[2], value)
            seen, weights = self._attend_piece(query, keys, values, lambda m=mask: m, ctx, length=length, **how)  # type: ignore[misc]
            mixed.append(seen)
            if weights is not None:  # as in transformers, of whole blocks
                near = F.pad(weights[..., count:], (space, size - space - key.shape[2]))
                shown.append(torch.cat((weights[..., :count], near), -1))
            start, space = start + query.shape[2], 0
        keys, values = ((shared[i], text[i]) for i in (1, 2))
        gathered, weights = self._attend_piece(shared[0], keys, values, lambda: look, ctx, length=count, **how)
        if ctx.attentions is not None and ctx.global_attentions is not None and weights is not None:
            ctx.attentions.append(torch.cat(shown, 2))
            ctx.global_attentions.append(weights)
        return torch.cat(mixed, 2), gathered

    def _own_block(self, globals_: int, length: int, device: torch.device) -> Tensor:
        """(length, globals + length) bool: global tokens and those of the own block."""
        block = (torch.arange(length, device=device) + self.config.shift) // self.config.size
        return F.pad(block[:, None] == block, (globals_, 0), value=True)

    def _blocks(self, x: Tensor) -> Sequence[Tensor]:
        """(batch, heads, length, head_size) -> block by block; in one piece while a model is exported."""
        if torch.compiler.is_exporting():
            return (x,)
        first = self.config.size - self.config.shift
        after = x[:, :, first:]
        return (x[:, :, :first], *(after.split(self.config.size, 2) if after.shape[2] else ()))
