"""Dot-product attention of packed texts: the one place where it is computed, and where a kernel may take its place.

``packed_attention`` is all that layers know of it. A bias is given per text, or by distance for all texts at once, so
that no kernel has to hold one of every pair of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.layers.attention import packed_kernels
from eir_seq.models.layers.attention.dot_product import FLASH, ON_GPU, SDPA, in_dtype, kernel, refuse_single_precision
from eir_seq.models.layers.attention.grouping import NARROW, Plan, planned
from eir_seq.models.layers.attention.windows import windows
from eir_seq.models.layers.positions.relative import DistanceBias
from eir_seq.native import attention as native

LEAST_BLOCK = 256
"""Queries of a block if the window is smaller."""
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
    shared: tuple[tuple[int, ...], ...] | None = None,
    own: Tensor | None = None,
    implementation: str = SDPA,
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
        shared: tokens of each text that all of its queries see, besides the window (`narrow`), by their places among
            all tokens.
        own: (shared tokens, heads, head_size) what these see instead, computed elsewhere.
        implementation: of the names in `dot_product`; a kernel that cannot compute what is wanted leaves it to others.

    Returns:
        (tokens, heads, head_size).

    Example:
        >>> import torch
        >>> from eir_seq.models.layers.attention.packed import packed_attention
        >>> query, key, value = torch.randn(3, 7, 2, 4).unbind()
        >>> packed_attention(query, key, value, (3, 4), (3, 4), causal=True).shape
        torch.Size([7, 2, 4])

    Raises:
        UserError: the flash kernel is wanted in single precision.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    places = None if own is None or shared is None else _joined(shared, query.device)
    if implementation in ON_GPU and not shared:
        how: dict[str, Any] = {"causal": causal, "window": window, "scale": scale}
        found = _by_kernel(implementation, (query, key, value, query_lengths, key_lengths), bias, dropout, how)
        if found is not None:
            return found
    if native.serves(query, key) and native.few(shared):
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
            scale=scale,
            shared=None if shared is None else _places_in_texts(shared, tuple(key_lengths)),
            own=None if own is None or places is None else (places, own),
            **_native_bias(bias, query.shape[1], query_lengths, key_lengths),
        )
    wide = window is not None and not narrow(window) and max(query_lengths) > window
    if wide or (bias is not None and (window is not None or not isinstance(bias, DistanceBias))):
        assert shared is None, "only narrow windows know shared keys"
        return _one_by_one(query, key, value, query_lengths, key_lengths, causal, window, bias, dropout, scale)
    lengths = tuple(query_lengths), tuple(key_lengths)
    plan: Plan = planned(*lengths, query.shape[1], causal, window, bias is None, shared)
    mixed = []
    masks, rectangles = plan.masks(query.device), plan.rectangles(query, key, value)
    for group, hidden, q, k, v in zip(plan.groups, masks, *rectangles, strict=True):
        mask = None if hidden is None else in_dtype(hidden, query.dtype)
        if bias is not None:
            added = bias.dense(*group.shape[1:]).to(query.dtype)
            mask = added if mask is None else mask + added
        mixed.append(kernel(q, k, v, mask, dropout, scale, causal=group.causal))
    seen = plan.joined(mixed)
    return seen if own is None or places is None else seen.index_copy(0, places, own)


def _by_kernel(
    implementation: str, texts: tuple[Any, ...], bias: PackedBias | None, dropout: float, how: dict[str, Any]
) -> Tensor | None:
    """The same in one call, where `implementation` names a kernel that can."""
    if implementation == FLASH:
        refuse_single_precision(texts[0])
        return packed_kernels.flash(*texts, dropout=dropout, **how) if bias is None else None
    if not dropout and (bias is None or isinstance(bias, DistanceBias)):
        return packed_kernels.flex(*texts, bias=bias, **how)
    return None


def narrow(window: int) -> bool:
    """Whether few calls compute windows of many texts."""
    return window <= NARROW


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    causal: bool,
    window: int | None,
    bias: PackedBias | None,
    dropout: float,
    scale: float,
) -> Tensor:
    """The same where each text has its own bias, or is cut into wide windows."""
    mixed = []
    parts = (x.split(list(y)) for x, y in ((query, query_lengths), (key, key_lengths), (value, key_lengths)))
    for number, text in enumerate(zip(*parts, strict=True)):
        q, k, v = (x.transpose(0, 1)[None] for x in text)
        if bias is None and window is not None and q.shape[2] > window:
            out = _in_blocks(q, k, v, causal, window, dropout, scale)
        else:
            mask = _bias_of(bias, number, q.shape[2], k.shape[2])
            if mask is not None and window is not None and window < k.shape[2]:
                near = window_mask(q.shape[2], k.shape[2], 0, causal, window).to(mask.device)
                mask = mask.masked_fill(~near, torch.finfo(mask.dtype).min)
            out = kernel(q, k, v, mask if mask is None else in_dtype(mask, query.dtype), dropout, scale, causal=causal)
        mixed.append(out[0].transpose(0, 1))
    return torch.cat(mixed)


@lru_cache(maxsize=4)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def _places_in_texts(shared: tuple[tuple[int, ...], ...], lengths: tuple[int, ...]) -> Tensor:
    """Places among all tokens -> (texts, places) those in their text; -1 where there is none."""
    most, starts = max(map(len, shared)), accumulate(lengths, initial=0)
    rows = [[place - start for place in own] for own, start in zip(shared, starts, strict=False)]
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows]).view(len(shared), most)


@lru_cache(maxsize=4)
@torch.inference_mode(mode=False)
def _joined(shared: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """(shared tokens,) their places among all tokens."""
    return torch.tensor([place for own in shared for place in own], dtype=torch.long, device=device)


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


def _bias_of(bias: PackedBias | None, text: int, queries: int, keys: int) -> Tensor | None:
    if bias is None:
        return None
    return bias.dense(queries, keys) if isinstance(bias, DistanceBias) else bias[text]


def _in_blocks(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int, dropout: float, scale: float
) -> Tensor:
    """(1, heads, length, head_size) each -> the same: queries block by block, with the keys that some of them see."""
    before, after = window - 1, 0 if causal else window - 1
    size = max(window, LEAST_BLOCK)
    around = zip(
        query.split(size, 2), windows(key, size, before, after), windows(value, size, before, after), strict=True
    )
    mixed = []
    for number, (q, k, v) in enumerate(around):
        first = min(number * size, before)  # place of the first query among these keys
        mask = window_mask(q.shape[2], k.shape[2], first, causal, window).to(q.device)
        mixed.append(kernel(q, k, v, mask, dropout, scale, causal=False))
    return torch.cat(mixed, 2)


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def window_mask(queries: int, keys: int, first: int, causal: bool, window: int) -> Tensor:
    """(queries, keys) bool of keys nearer than `window`, with `causal` not after their query; it is key `first`."""
    apart = torch.arange(keys) - first - torch.arange(queries)[:, None]
    return (apart > -window) & (apart < (1 if causal else window))
