"""Dot-product attention of packed texts: the one place where it is computed, and where a kernel may take its place.

``packed_attention`` is all that layers know of it. A bias is given per text, or by distance for all texts at once, so
that no kernel has to hold one of every pair of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.attention.dot_product import causal_mask
from eir_seq.native import attention as native


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
    if native.serves(query, key):
        reach = -1 if window is None else window - 1
        return native.attention(
            query,
            key,
            value,
            query_lengths,
            key_lengths,
            before=reach,
            after=0 if causal else reach,
            dropout=dropout,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
            **_native_bias(bias, query.shape[1], query_lengths, key_lengths),
        )
    shared = bool(query.shape[1] != key.shape[1])
    mixed = []
    parts = (x.split(list(y)) for x, y in ((query, query_lengths), (key, key_lengths), (value, key_lengths)))
    texts = zip(*parts, strict=True)
    for number, text in enumerate(texts):
        q, k, v = (x.transpose(0, 1)[None] for x in text)
        mask = None
        if bias is not None:
            mask = bias.dense(q.shape[2], k.shape[2]) if isinstance(bias, DistanceBias) else bias[number]
            mask = mask.to(query.dtype)
        if window is not None:
            near = _window_mask(q, k, window)
            mask = near if mask is None else mask.masked_fill(~near, float("-inf"))
        if causal and mask is not None:
            past = causal_mask(q, k)
            mask = mask & past if mask.dtype is torch.bool else mask.masked_fill(~past, float("-inf"))
        kernel_causal = causal and mask is None
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout, kernel_causal, scale=scale, enable_gqa=shared)
        mixed.append(out[0].transpose(0, 1))
    return torch.cat(mixed)


def _native_bias(
    bias: PackedBias | None, heads: int, query_lengths: Sequence[int], key_lengths: Sequence[int]
) -> dict[str, Any]:
    """As the native kernel takes it."""
    if bias is None:
        return {}
    if isinstance(bias, DistanceBias):
        return {"distances": bias.values.expand(heads, -1), "center": bias.origin}
    texts = zip(bias, query_lengths, key_lengths, strict=True)
    return {"biases": [own.expand(heads, queries, keys) for own, queries, keys in texts]}


def _window_mask(query: Tensor, key: Tensor, window: int) -> Tensor:
    """(queries, keys) bool: the keys nearer than `window` to either side."""
    own = torch.arange(query.shape[2], device=query.device)[:, None]
    apart = torch.arange(key.shape[2], device=query.device) - own
    return apart.abs() < window
