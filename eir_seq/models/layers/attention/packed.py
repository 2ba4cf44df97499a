"""Dot-product attention of packed texts: the one place where it is computed, and where a kernel may take its place.

``packed_attention`` is all that layers know of it. A bias is given per text, or by distance for all texts at once, so
that no kernel has to hold one of every pair of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.attention.dot_product import in_dtype, kernel
from eir_seq.models.layers.attention.grouping import planned


@dataclass(frozen=True)
class DistanceBias:
    """What is added to scores, by the distance from query to key: the same for all texts (T5, ALiBi).

    `values`: (heads or 1, distances), that of a key `d` tokens after its query in column ``origin + d``; with a
    gradient where it is learned.
    """

    values: Tensor
    origin: int

    def dense(self, queries: int, keys: int) -> Tensor:
        """(heads or 1, queries, keys), the queries being the last of the keys."""
        device = self.values.device
        own = torch.arange(keys - queries, keys, device=device)[:, None]
        return self.values[:, torch.arange(keys, device=device) - own + self.origin]


PackedBias = Sequence[Tensor] | DistanceBias
"""What is added to the scaled scores: a tensor per text, broadcastable to (heads, queries, keys), or by distance."""


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    *,
    causal: bool = False,
    window: int | None = None,
    bias: PackedBias | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(Q K^T scale + bias) V of each of several texts, which are stored one after the other without padding.

    Args:
        query: (tokens, heads, head_size).
        key, value: (keys, heads, head_size); or fewer heads, each shared by a group of query heads, which then are
            neighbours.
        query_lengths, key_lengths: tokens and keys of each text; they differ where queries attend to another text.
        causal: each query sees the keys up to its own place; then there are as many keys as queries.
        window: a query sees keys nearer than this; with `causal` only those before it and itself.
        bias: see `PackedBias`; may have a gradient.
        dropout: probability that a weight is set to zero, drawn from torch's generator.
        scale: factor on the products; by default one over the square root of the head size.

    Returns:
        (tokens, heads, head_size).

    Example:
        >>> import torch
        >>> from eir_seq.models.layers.attention.packed import packed_attention
        >>> query, key, value = torch.randn(3, 7, 2, 4).unbind()
        >>> packed_attention(query, key, value, (3, 4), (3, 4), causal=True).shape
        torch.Size([7, 2, 4])
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None and (window is not None or not isinstance(bias, DistanceBias)):
        return _one_by_one(query, key, value, query_lengths, key_lengths, causal, window, bias, dropout, scale)
    plan = planned(tuple(query_lengths), tuple(key_lengths), query.shape[1], causal, window, bias is None)
    q, k, v = _laid_out(query, plan.queries), _laid_out(key, plan.keys), _laid_out(value, plan.keys)
    texts = zip(plan.groups, *plan.rectangles(q, k, v), strict=True)
    mixed = []
    for group, *qkv in texts:
        mask = None if group.mask is None else in_dtype(group.mask, query.dtype)
        if bias is not None:
            own = bias.dense(*group.shape[1:]).to(query.dtype)
            mask = own if mask is None else mask + own
        found = kernel(*(x.transpose(1, 2) for x in qkv), mask, dropout, scale, causal=group.causal)
        mixed.append(found.transpose(1, 2).flatten(0, 1))
    return _laid_out(mixed[0] if len(mixed) == 1 else torch.cat(mixed), plan.back)


def _laid_out(x: Tensor, index: Tensor | None) -> Tensor:
    return x if index is None else x.index_select(0, index.to(x.device))


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    causal: bool,
    window: int | None,
    bias: PackedBias,
    dropout: float,
    scale: float,
) -> Tensor:
    """The same where each text has its own bias."""
    mixed = []
    parts = (x.split(list(y)) for x, y in ((query, query_lengths), (key, key_lengths), (value, key_lengths)))
    for number, text in enumerate(zip(*parts, strict=True)):
        q, k, v = (x.transpose(0, 1)[None] for x in text)
        mask = bias.dense(q.shape[2], k.shape[2]) if isinstance(bias, DistanceBias) else bias[number]
        if window is not None:
            mask = mask.masked_fill(~_window_mask(q, k, window), torch.finfo(mask.dtype).min)
        out = kernel(q, k, v, in_dtype(mask, query.dtype), dropout, scale, causal=causal)
        mixed.append(out[0].transpose(0, 1))
    return torch.cat(mixed)


def _window_mask(query: Tensor, key: Tensor, window: int) -> Tensor:
    """(queries, keys) bool: the keys nearer than `window` to either side."""
    own = torch.arange(query.shape[2], device=query.device)[:, None]
    apart = torch.arange(key.shape[2], device=query.device) - own
    return apart.abs() < window
