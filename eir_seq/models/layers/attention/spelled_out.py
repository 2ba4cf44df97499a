"""Attention spelled out on a CPU, where torch has no fast kernel: with dropout of its weights, or with a learned bias.

Torch's own way there keeps several tensors of all pairs of tokens. This one takes some of the pairs at a time, few
enough for the caches, and keeps the weights and a random byte per pair for the backward pass; of many pairs the bytes
alone, and computes the weights a second time (as https://arxiv.org/abs/2205.14135 does on a GPU).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers import dropout as dropping
from eir_seq.models.layers.dropout import Kept
from eir_seq.models.layers.eager import gradients_with_graph, is_eager

PAIRS = 2**18
"""Pairs of queries and keys that are taken at a time, in float32 a megabyte: half of a second-level cache."""
BLOCK = 128
"""Queries that are taken at a time at least, where those of one text are too many pairs, or only look back."""
KEPT = 2**23
"""Pairs of a call up to which weights are kept for their gradients, in float32 32 megabytes."""


def serves(query: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether attention takes this way."""
    learned = mask is not None and mask.requires_grad and torch.is_grad_enabled()
    return query.device.type == "cpu" and is_eager() and (dropping.serves(query, dropout) or (learned and dropout == 0))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scale: float,
    *,
    causal: bool = False,
) -> Tensor:
    """softmax(Q K^T scale + bias) V with dropout of the weights; in float32 or better, whatever the inputs are.

    Args:
        query: (batch, heads, queries, head_size).
        key, value: (batch, heads or fewer, keys, head_size).
        mask: bool, True where a query may look, which each does somewhere; or what is added to scores and may have a
            gradient; broadcastable to (batch, heads, queries, keys).
        causal: each query sees the keys up to its own place, besides what `mask` says; the queries are the last keys.

    Returns:
        (batch, heads, queries, head_size).
    """
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        query, key, value = (x if x.dtype is torch.float64 else x.to(lower) for x in (query, key, value))
    if mask is not None:
        wide = _wide(query.dtype)
        mask = mask[(None,) * (4 - mask.dim())]
        if mask.dtype is torch.bool:
            mask = torch.zeros(mask.shape, dtype=wide).masked_fill_(~mask, torch.finfo(wide).min)
        mask = mask.to(wide)
    mixed: Tensor = _Attention.apply(query, key, value, mask, dropout, scale, causal)
    return mixed


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


class _Part(NamedTuple):
    """Pairs that are taken at a time: some queries of some texts, and the keys that they may see."""

    texts: slice
    queries: slice
    keys: slice

    def rows(self, x: Tensor, places: slice, groups: int) -> Tensor:
        """(batch, heads, length, size) -> (texts * groups, rows of the heads of a group, size), float32 or better."""
        heads, length, size = x.shape[1:]
        few = x[self.texts.start] if self.texts.stop - self.texts.start == 1 else x[self.texts]
        if places.stop - places.start < length:
            few = few[..., places, :]
        if few.dim() == 4 or groups != heads:
            few = few.reshape(-1, heads // groups * few.shape[-2], size)
        return few.to(_wide(x.dtype))

    def within(self, mask: Tensor) -> Tensor:
        """This part of what is broadcast to all pairs."""
        wanted = self.texts, slice(None), self.queries, self.keys
        return mask[tuple(slice(None) if size == 1 else own for size, own in zip(mask.shape, wanted, strict=True))]


def _parts(batch: int, heads: int, queries: int, keys: int, causal: bool) -> Iterator[_Part]:
    pairs = max(1, heads * queries * keys)
    size = max(queries, 1)
    if queries > BLOCK and (causal or pairs > 2 * PAIRS):
        size = max(BLOCK, PAIRS // (heads * keys) // 64 * 64)
    together = max(1, PAIRS // pairs)
    for first in range(0, batch, together):
        for start in range(0, queries, size):
            end = min(start + size, queries)
            seen = slice(0, keys - queries + end if causal else keys)
            yield _Part(slice(first, min(first + together, batch)), slice(start, end), seen)


def _used(weights: Tensor, kept: Kept | None) -> tuple[Tensor, float]:
    """The weights after dropout, and a factor on all of them."""
    return (
        (weights, 1.0) if kept is None else (kept.factors(weights.dtype).view(weights.shape).mul_(weights), kept.scale)
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        scale: float,
        causal: bool,
    ) -> Tensor:
        batch, heads, queries = query.shape[:3]
        groups, keys, width = value.shape[1:]
        mixed = _like(query, width)
        keep = batch * heads * queries * keys <= KEPT
        draws: list[Kept | None] = []
        saved: list[Tensor | None] = []
        with torch.autocast("cpu", enabled=False):
            for part in _parts(batch, heads, queries, keys, causal):
                q = part.rows(query, part.queries, groups)
                k, v = (part.rows(x, part.keys, groups) for x in (key, value))
                scores = _scores(q, k, mask, part, heads, scale, causal)
                weights, sums = (torch.softmax(scores, -1, out=scores), None) if keep else _softmax(scores)
                kept = Kept.drawn(weights.numel(), dropout) if dropout else None
                used, factor = _used(weights, kept)
                out = q.new_empty(*q.shape[:2], width).baddbmm_(used, v, beta=0, alpha=factor)
                mixed[part.texts, :, part.queries] = out.view(-1, heads, part.queries.stop - part.queries.start, width)
                draws.append(None if kept is None else kept.without_noise())
                saved.extend((weights if keep else sums, None if kept is None else kept.noise))
        ctx.save_for_backward(query, key, value, mask, mixed, *saved)
        ctx.draws, ctx.keep = draws, keep
        ctx.scale, ctx.causal = scale, causal
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, mixed, *saved = ctx.saved_tensors
        gradient, scale = gradients[0], ctx.scale
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            draws = [
                None if draw is None else replace(draw, noise=noise)
                for draw, noise in zip(ctx.draws, saved[1::2], strict=True)
            ]
            plain = partial(_plain, draws=draws, scale=scale, causal=ctx.causal)
            given = query, key, value, mask
            return (*gradients_with_graph(plain, given, ctx.needs_input_grad[:4], gradient), None, None, None)
        batch, heads, queries, size = query.shape
        groups, keys = value.shape[1:3]
        parts = list(_parts(batch, heads, queries, keys, ctx.causal))
        add = len({part.queries.start for part in parts}) != 1  # several parts look at a key, or without queries none
        grad_query, grad_key, grad_value = (_like(x, x.shape[-1]) for x in (query, key, value))
        if add:
            grad_key.zero_()
            grad_value.zero_()
        grad_mask = torch.zeros_like(mask) if ctx.needs_input_grad[3] else None
        shares = (gradient * mixed).to(_wide(query.dtype)).sum(-1, keepdim=True)
        with torch.autocast("cpu", enabled=False):
            for part, draw, weights, noise in zip(parts, ctx.draws, saved[::2], saved[1::2], strict=True):
                q, g = (part.rows(x, part.queries, groups) for x in (query, gradient))
                k, v = (part.rows(x, part.keys, groups) for x in (key, value))
                if not ctx.keep:  # these are the sums
                    weights = _scores(q, k, mask, part, heads, scale, ctx.causal).sub_(weights).exp_()
                used, factor = _used(weights, None if draw is None else replace(draw, noise=noise))
                to_value = v.new_empty(v.shape).baddbmm_(used.transpose(1, 2), g, beta=0, alpha=factor)
                change = torch.empty_like(weights).baddbmm_(g, v.transpose(1, 2), beta=0, alpha=factor)
                change.mul_(used).addcmul_(weights, part.rows(shares, part.queries, groups), value=-1)
                if grad_mask is not None:
                    own = part.within(grad_mask)
                    own += change.view(-1, heads, *own.shape[2:]).sum_to_size(own.shape)
                to_query = q.new_empty(q.shape).baddbmm_(change, k, beta=0, alpha=scale)
                to_key = k.new_empty(k.shape).baddbmm_(change.transpose(1, 2), q, beta=0, alpha=scale)
                grad_query[part.texts, :, part.queries] = to_query.view(-1, heads, q.shape[1] * groups // heads, size)
                for whole, found in ((grad_key, to_key), (grad_value, to_value)):
                    own = whole[part.texts, :, part.keys]
                    found = found.view(own.shape)
                    own.add_(found) if add else own.copy_(found)
        return grad_query, grad_key, grad_value, grad_mask, None, None, None


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    draws: Sequence[Kept | None],
    scale: float,
    causal: bool,
) -> Tensor:
    """The same in operations that torch differentiates, with what was drawn for each part."""
    batch, heads, queries = query.shape[:3]
    groups, keys, width = value.shape[1:]
    mixed = query.new_zeros(batch, heads, queries, width)
    with torch.autocast("cpu", enabled=False):
        for part, kept in zip(_parts(batch, heads, queries, keys, causal), draws, strict=True):
            q = part.rows(query, part.queries, groups)
            k, v = (part.rows(x, part.keys, groups) for x in (key, value))
            count, seen = part.queries.stop - part.queries.start, k.shape[1]
            scores = (q @ k.transpose(1, 2) * scale).view(-1, heads, count, seen)
            if mask is not None:
                scores = scores + part.within(mask)
            if causal:
                scores = scores + F.pad(_future(count), (seen - count, 0))
            weights = scores.softmax(-1).view(*q.shape[:2], seen)
            if kept is not None:
                weights = weights * kept.factors(weights.dtype).view(weights.shape) * kept.scale
            mixed[part.texts, :, part.queries] = (weights @ v).view(-1, heads, count, width).to(mixed.dtype)
    return mixed


def _like(x: Tensor, width: int) -> Tensor:
    """(batch, heads, length, width) in the order of x in memory: heads one after the other, or those of a token."""
    batch, heads, length, _ = x.shape
    if x.is_contiguous():
        return x.new_empty(batch, heads, length, width)
    return x.new_empty(batch, length, heads, width).transpose(1, 2)


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, part: _Part, heads: int, scale: float, causal: bool) -> Tensor:
    """(texts * groups, rows, size) of queries and keys -> (texts * groups, rows, keys)."""
    scores = q.new_empty(*q.shape[:2], k.shape[1]).baddbmm_(q, k.transpose(1, 2), beta=0, alpha=scale)
    count = part.queries.stop - part.queries.start
    by_head = scores.view(-1, heads, count, k.shape[1])
    if mask is not None:
        by_head += part.within(mask)
    if causal:
        by_head[..., -count:] += _future(count)
    return scores


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def _future(count: int) -> Tensor:
    """(count, count): minus infinity for keys after their query."""
    return torch.full((count, count), float("-inf")).triu(1)


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax, in place of the scores, and the logarithm of its sums (..., 1)."""
    most = scores.amax(-1, keepdim=True)
    total = scores.sub_(most).exp_().sum(-1, keepdim=True)
    return scores.div_(total), most.add_(total.log())
