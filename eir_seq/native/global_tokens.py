"""What a few tokens see of their whole texts, with projections of their own, as one node of the graph.

The projections of keys and values move to the few queries: q (W x + b) = (q W) x + q b, of which the last is the same
for all keys of a query, so that the softmax ignores it; and a weighted sum of W x + b is W times that of x, and b times
the sum of the weights, which is not one after dropout. So no product runs over all tokens, and states are read where
they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.native import attention, library, reference
from eir_seq.native.reference import Problem

Layer = tuple[Tensor, Tensor]
"""The weight (hidden, hidden) and the bias (hidden,) of a projection."""


class Call(NamedTuple):
    """`places`: (global tokens,) among all tokens, in order. `problem`: how heads of global tokens look at texts."""

    places: Tensor
    problem: Problem
    heads: int


def serves(x: Tensor) -> bool:
    """Whether `global_tokens` takes such states (tokens, hidden), here and now."""
    plain = library.is_eager() and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and attention.serves(x, x)


def global_tokens(
    x: Tensor,
    places: Tensor,
    counts: Sequence[int],
    lengths: Sequence[int],
    query: Layer,
    key: Layer,
    value: Layer,
    *,
    heads: int,
    dropout: float,
    scale: float,
) -> Tensor:
    """Attention of the tokens at `places` to all of their texts; see `serves`.

    Args:
        x: (tokens, hidden), texts one after the other.
        places: (global tokens,) in order.
        counts, lengths: global tokens, and tokens, of each text.
        query, key, value: projections.
        dropout: probability that a weight is set to zero; drawn from torch's generator.

    Returns:
        (global tokens, hidden).
    """
    problem = Problem(
        tuple(count * heads for count in counts), tuple(lengths), -1, -1, scale, dropout, library.drawn_seed(dropout)
    )
    seen: Tensor = _GlobalTokens.apply(x, Call(places, problem, heads), *query, *key, *value)
    return seen


class _GlobalTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *parameters: Tensor) -> Tensor:
        x = x.contiguous()
        query_weight, query_bias, key_weight, _, value_weight, value_bias = parameters
        own = x.index_select(0, call.places)
        query = _by_head(F.linear(own, query_weight, query_bias), call.heads)
        folded = _by_token(query @ _of_head(key_weight, call.heads))
        mixed, logs, sums = library.operations().attention_forward(folded, x[:, None], None, *_arguments(call), True)
        ctx.save_for_backward(x, own, query, folded, mixed, logs, sums, *parameters)
        ctx.call = call
        weighted = _by_head(mixed.flatten(1), call.heads, whole=True) @ _of_head(value_weight, call.heads).mT
        bias = sums.view(-1, call.heads, 1) * value_bias.view(call.heads, -1)
        return (weighted.transpose(0, 1) + bias).flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, own, query, folded, mixed, logs, sums, *parameters = ctx.saved_tensors
        call: Call = ctx.call
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
            inputs = [leaf for leaf, wanted in zip((x, *parameters), needed, strict=True) if wanted]
            found = iter(
                torch.autograd.grad(_spelled_out(x, call, parameters), inputs, gradients[0], create_graph=True)
            )
            grad, *others = [next(found) if wanted else None for wanted in needed]
            return grad, None, *others
        query_weight, _, key_weight, key_bias, value_weight, value_bias = parameters
        heads = call.heads
        above = gradients[0].view(-1, heads, gradients[0].shape[1] // heads)
        by_head = above.transpose(0, 1)
        value_grad = by_head.mT @ _by_head(mixed.flatten(1), heads, whole=True)
        value_bias_grad = (above * sums.view(-1, heads, 1)).sum(0)
        folded_grad, x_grad, *_ = library.operations().attention_backward(
            _by_token(by_head @ _of_head(value_weight, heads)),
            mixed,
            logs,
            folded,
            x[:, None],
            None,
            *_arguments(call),
            False,
            (above * value_bias.view(heads, -1)).sum(2).view(-1, 1),
            sums,
            False,
        )
        folded_grad = _by_head(folded_grad.flatten(1), heads, whole=True)
        key_grad = query.mT @ folded_grad
        query_grad = (folded_grad @ _of_head(key_weight, heads).mT).transpose(0, 1).flatten(1)
        x_grad = x_grad.squeeze(1).index_add_(0, call.places, query_grad @ query_weight)
        return (
            x_grad,
            None,
            query_grad.t() @ own,
            query_grad.sum(0),
            key_grad.flatten(0, 1),
            torch.zeros_like(key_bias),
            value_grad.flatten(0, 1),
            value_bias_grad.flatten(),
        )


def _of_head(weight: Tensor, heads: int) -> Tensor:
    """(hidden, hidden) -> (heads, head size, hidden)."""
    return weight.view(heads, -1, weight.shape[1])


def _by_head(x: Tensor, heads: int, *, whole: bool = False) -> Tensor:
    """(tokens, heads * size), or (tokens * heads, size) if `whole` -> (heads, tokens, size)."""
    return (x.view(-1, heads, x.shape[1]) if whole else x.view(len(x), heads, -1)).transpose(0, 1)


def _by_token(x: Tensor) -> Tensor:
    """(heads, tokens, hidden) -> (tokens * heads, 1, hidden)."""
    return x.transpose(0, 1).reshape(-1, 1, x.shape[-1])


def _arguments(call: Call) -> tuple[Any, ...]:
    return attention.arguments(call.problem, None, None, ())


def _spelled_out(x: Tensor, call: Call, parameters: Sequence[Tensor]) -> Tensor:
    """The same in torch's operations."""
    query_weight, query_bias, key_weight, key_bias, value_weight, value_bias = parameters
    heads, states = call.heads, F.pad(x, (0, 1), value=1.0)
    key, value = (
        torch.cat((weight, bias[:, None]), 1).view(heads, -1, x.shape[1] + 1)
        for weight, bias in ((key_weight, key_bias), (value_weight, value_bias))
    )
    query = _by_head(F.linear(x.index_select(0, call.places), query_weight, query_bias), heads)
    seen = reference.attention(_by_token(query @ key), states[:, None], states[:, None], call.problem)
    return (_by_head(seen.flatten(1), heads, whole=True) @ value.mT).transpose(0, 1).flatten(1)
