"""Attention in pieces: tokens are taken some at a time, with the keys that they see.

Each piece is one product of torch's own kernel, so time and memory grow linearly with the length where pieces and what
they see have a bounded size, and a text that is one piece is dense attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from eir_seq.models.layers.attention.dot_product import EAGER, DotProduct
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.layout import Layout

LEAST_PIECE = 128
"""Tokens of a piece where windows are narrower."""
KEPT = 1024
"""Tokens of a text up to which weights are kept for their gradients, as dense attention does where torch has no kernel.

Those of longer texts are computed a second time instead.
"""


def texts_of(x: Tensor, layout: Layout) -> Sequence[Tensor]:
    """States (..., heads, head_size) of the layout -> (batch, heads, length, head_size): each text, or all in one."""
    if layout.packed:
        return [text.transpose(0, 1)[None] for text in x.split(layout.lengths)]
    return [x.transpose(1, 2)]


def in_layout(texts: Sequence[Tensor], layout: Layout) -> Tensor:
    """The inverse, heads side by side: (..., heads * head_size)."""
    if layout.packed:
        return torch.cat([text[0].transpose(0, 1) for text in texts]).flatten(1)
    (text,) = texts
    return text.transpose(1, 2).flatten(2)


def windows(x: Tensor, size: int, before: int, after: int) -> Sequence[Tensor]:
    """(batch, heads, length, head_size) -> for each `size` tokens those, and the ones around them as far as there are.

    Views of one copy: the gradient of slices would fill a whole text for each of them, that of these takes linear time.
    """
    length = x.shape[2]
    if length <= size:
        return [x]
    count = -(-length // size)
    padded = F.pad(x, (0, 0, before, count * size - length + after))
    views = padded.unfold(2, before + size + after, size).transpose(-1, -2).unbind(2)
    starts = (before - number * size for number in range(count))
    return [view[:, :, max(0, start) : length + start] for view, start in zip(views, starts, strict=True)]


def piece(reach: int, length: int) -> int:
    """Tokens of a piece of a text whose tokens see `reach` tokens to each side.

    All of them while a model is exported: the number of pieces would be fixed in the graph.
    """
    return length if torch.compiler.is_exporting() else max(reach, LEAST_PIECE)


def starts(length: int, size: int) -> Iterable[int]:
    """Where the pieces of a text begin."""
    return (0,) if torch.compiler.is_exporting() else range(0, length, size)


class InPieces(DotProduct):
    """Attention whose tokens see a part of their text each: building stones for mixers."""

    def _attend_piece(
        self,
        query: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        bias: Callable[[], Tensor | None],
        ctx: Context,
        *,
        scale: float,
        dropout: float,
        length: int,
        learned: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What the tokens of a piece see, and the weights if they are wanted.

        Args:
            query: (batch, heads, tokens, head_size).
            keys, values: (batch, heads, ..., head_size), one after the other.
            bias: makes a mask (bool), or what is added to the scores; broadcastable to (batch, heads, tokens, keys).
            length: tokens of the whole text.
            learned: whether gradients of the bias are wanted.
        """

        def product(query: Tensor, *around: Tensor) -> Tensor:
            key, value = _joined(around[: len(keys)]), _joined(around[len(keys) :])
            return self._product(query, key, value, bias(), dropout, scale)

        if ctx.attentions is None:
            traced = torch.compiler.is_compiling()
            has_kernel = self.attn_implementation != EAGER and (query.device.type != "cpu" or not (dropout or learned))
            if traced or has_kernel or length <= KEPT or not torch.is_grad_enabled():
                mixed = product(query, *keys, *values)
            else:
                mixed = checkpoint(product, query, *keys, *values, use_reentrant=False)
            return (mixed if ctx.head_mask is None else mixed * ctx.head_mask[:, None, None]), None
        scores, added = query @ _joined(keys).transpose(-1, -2) * scale, bias()
        if added is not None:
            masks = added.dtype is torch.bool
            scores = scores.masked_fill(~added, torch.finfo(scores.dtype).min) if masks else scores + added
        weights = scores.softmax(-1)
        if ctx.head_mask is not None:
            weights = weights * ctx.head_mask[:, None, None]
        return drop(weights, dropout) @ _joined(values), weights

    def _slide(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        others: tuple[Tensor, Tensor] | None,
        bias: Callable[[int], Tensor | None],
        ctx: Context,
        *,
        reach: int,
        **how: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of texts (batch, heads, length, head_size) to `reach` tokens on each side and to `others`.

        Args:
            others: further keys and values (batch, heads, others, head_size), before those of the text.
            bias: that of a piece, by its number, see `_attend_piece`.
            how: `scale`, `dropout`, `learned` of `_attend_piece`.

        Returns:
            What they see, of the shape of `query`, and the weights if they are wanted, as published: (batch, heads,
            length, others + 2 reach + 1).
        """
        length, count = query.shape[2], 0 if others is None else others[0].shape[2]
        size = piece(reach, length)
        mixed, shown = [], []
        queries = (query,) if torch.compiler.is_exporting() else query.split(size, 2)
        around = zip(queries, windows(key, size, reach, reach), windows(value, size, reach, reach), strict=True)
        for number, (q, k, v) in enumerate(around):
            keys, values = ((k,), (v,)) if others is None else ((others[0], k), (others[1], v))
            seen, weights = self._attend_piece(q, keys, values, partial(bias, number), ctx, length=length, **how)
            mixed.append(seen)
            if weights is not None:
                shown.append(_by_distance(weights, count, min(number * size, reach), reach))
        return torch.cat(mixed, 2), torch.cat(shown, 2) if shown else None


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([*parts], 2) if len(parts) > 1 else parts[0]


def _by_distance(weights: Tensor, others: int, first: int, reach: int) -> Tensor:
    """(batch, heads, tokens, others + keys), the first token being key `first` -> (.., others + 2 reach + 1)."""
    tokens, near = weights.shape[2], weights[..., others:]
    near = F.pad(near, (reach - first, tokens + reach + first - near.shape[-1]))
    row = torch.arange(tokens, device=weights.device)[:, None]
    band = row + torch.arange(2 * reach + 1, device=weights.device)
    return torch.cat((weights[..., :others], near.gather(-1, band.expand(*near.shape[:2], -1, -1))), -1)
