"""Dot-product attention of packed texts by the native kernel, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eir_seq.native import library, reference
from eir_seq.native.reference import Problem

WIDEST_HEAD = 272
DTYPES = (torch.float32, torch.bfloat16)
MOST_SHARED = 192
"""Keys of a text that all of its queries see, besides those in the window."""


def serves(query: Tensor, key: Tensor) -> bool:
    """Whether the kernel computes attention of such tensors, here and now."""
    dtypes = {_computed(query.dtype), _computed(key.dtype)}
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and query.device.type == key.device.type == "cpu"
        and len(dtypes) == 1
        and not dtypes.isdisjoint(DTYPES)
        and query.shape[-1] <= WIDEST_HEAD
        and library.available()
    )


def few(shared: Sequence[Sequence[int]] | None) -> bool:
    """Whether no text has more shared keys than the kernel takes."""
    return shared is None or all(len(own) <= MOST_SHARED for own in shared)


def _computed(dtype: torch.dtype) -> torch.dtype:
    """In which dtype attention is computed, as torch's: that of autocast for all but float64."""
    autocast = torch.is_autocast_enabled("cpu") and dtype is not torch.float64
    return torch.get_autocast_dtype("cpu") if autocast else dtype


def batched(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    *,
    causal: bool,
    dropout: float,
    scale: float,
) -> Tensor:
    """Attention of texts of one length, see `attention`: (batch, heads, length, head size) each, and the same back.

    Args:
        bias: added to the scaled scores, broadcastable to (batch, heads, queries, keys).
        causal: each query sees the keys up to its own place.
    """
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    biases: list[Tensor] = []
    if bias is not None:
        each = bias[(None,) * (4 - bias.dim())].expand(-1, heads, queries, keys)
        biases = [each[text if len(each) > 1 else 0] for text in range(batch)]
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    mixed = attention(
        q,
        k,
        v,
        (queries,) * batch,
        (keys,) * batch,
        after=0 if causal else -1,
        biases=biases,
        dropout=dropout,
        scale=scale,
    )
    return mixed.unflatten(0, (batch, queries)).transpose(1, 2)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    *,
    before: int = -1,
    after: int = -1,
    biases: Sequence[Tensor] = (),
    distances: Tensor | None = None,
    center: int = 0,
    shared: Tensor | None = None,
    own: tuple[Tensor, Tensor] | None = None,
    dropout: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """softmax(Q K^T scale + bias) V of each of several texts, stored one after the other.

    Gradients can be differentiated again, at the cost of all weights in memory.

    Args:
        query: (tokens, heads, head size), float32 or bfloat16.
        key, value: (keys, heads or fewer, head size), of the same dtype.
        query_lengths, key_lengths: of each text; the queries are the last of the keys.
        before, after: how many keys a query sees on either side of its own place, besides that; -1: all.
        biases: (heads, queries, keys) for each text, added to the scaled scores; or none.
        distances: (heads, distances), added likewise; that of a key d places after its query in column `center` + d.
        shared: (texts, keys) places of keys that all queries of a text see, -1 after the last; not with biases.
        own: what the tokens whose keys are shared see instead, computed elsewhere: their places among all queries, and
            (shared tokens, heads, head size).
        dropout: probability that a weight is set to zero; drawn from torch's generator.

    Returns:
        (tokens, heads, head size); zero where a query sees no key.
    """
    seed = library.drawn_seed(dropout)
    problem = Problem(tuple(query_lengths), tuple(key_lengths), before, after, scale, dropout, seed, center)
    query, key, value = (_by_rows(x.to(_computed(x.dtype))) for x in (query, key, value))
    biases = [_by_rows(bias.float()) for bias in biases]
    distances = None if distances is None else distances.float().contiguous()
    places, rows = (None, None) if own is None else (own[0], own[1].to(query.dtype))
    mixed: Tensor = _Attention.apply(query, key, value, problem, distances, shared, places, rows, *biases)
    return mixed


def _by_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        problem: Problem,
        distances: Tensor | None,
        shared: Tensor | None,
        places: Tensor | None,
        rows: Tensor | None,
        *biases: Tensor,
    ) -> Tensor:
        mixed, sums, _ = library.operations().attention_forward(
            query, key, value, *arguments(problem, distances, shared, biases), False
        )
        if places is not None and rows is not None:
            mixed.index_copy_(0, places, rows)
        ctx.save_for_backward(query, key, value, mixed, sums, distances, shared, places, *biases)
        ctx.problem = problem
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, sums, distances, shared, places, *biases = ctx.saved_tensors
        problem: Problem = ctx.problem
        above = gradients[0]
        rows = above.index_select(0, places) if ctx.needs_input_grad[7] else None
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            inputs = [
                x for x, needed in zip((query, key, value, distances, *biases), _needed(ctx), strict=True) if needed
            ]
            if places is not None:
                above = above.index_fill(0, places, 0)
            out = reference.attention(query, key, value, problem, distances, shared, biases)
            found = iter(torch.autograd.grad(out, inputs, above, create_graph=True))
            grads = [next(found) if needed else None for needed in _needed(ctx)]
            return (*grads[:3], None, grads[3], None, None, rows, *grads[4:])
        learned = ctx.needs_input_grad[4] or any(ctx.needs_input_grad[8:])
        *grads, grad_biases, grad_distances = library.operations().attention_backward(
            above.contiguous(),
            mixed,
            sums,
            query,
            key,
            value,
            *arguments(problem, distances, shared, biases),
            learned,
            None,
            None,
            places is not None,
        )
        return (*grads, None, grad_distances, None, None, rows, *(grad_biases or [None] * len(biases)))


def _needed(ctx: Any) -> tuple[bool, ...]:
    needed = ctx.needs_input_grad
    return (*needed[:3], needed[4], *needed[8:])


def arguments(
    problem: Problem, distances: Tensor | None, shared: Tensor | None, biases: Sequence[Tensor]
) -> tuple[Any, ...]:
    """Of the operations, after their tensors."""
    lengths = problem.query_lengths, problem.key_lengths
    window = problem.before, problem.after
    return (
        *lengths,
        list(biases),
        distances,
        problem.center,
        shared,
        *window,
        problem.scale,
        problem.dropout,
        problem.seed,
    )
