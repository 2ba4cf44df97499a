"""Linear recurrences, computed for all times in parallel.

States that fade by their own factor at every time are prefix sums of an associative operation, so they need
about twice the logarithm of the length in steps instead of one step per time (Brent and Kung, A regular layout for
parallel adders, IEEE Transactions on Computers 31(3), 1982), and twice the work. Nothing is ever divided by a product
of factors, which is why strong fading does no harm.

On a CPU one step per time is faster where it has enough to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eir_seq.models.layers.layout import Layout

ENOUGH = 2048
"""Numbers per time from which a CPU takes one time after the other: their work costs as much as the calls."""


def recurrence(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:
    """States h_t = decay_t h_(t-1) + inputs_t.

    Args:
        decay: (batch, length, ...), factors in [0, 1], broadcastable to `inputs`.
        inputs: (batch, length, ...).
        start: (batch, ...), the state before the first time.

    Returns:
        The states of all times, (batch, length, ...).
    """
    if torch.compiler.is_exporting():
        whole: Tensor = _whole_recurrence(decay, inputs, start)
        return whole
    states: Tensor = _Recurrence.apply(decay, inputs, start)
    return states


class _Recurrence(torch.autograd.Function):
    """Gradients run through the same recurrence backwards in time."""

    @staticmethod
    def forward(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:
        return accumulate(decay, inputs.clone(), start, keeps=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        decay, _, start = inputs
        ctx.save_for_backward(decay, start, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor) -> tuple[Tensor, ...]:
        decay, start, states = ctx.saved_tensors
        gradient = accumulate_backwards(decay, of_states.clone())
        before = torch.cat((start[:, None], states[:, :-1]), 1)
        return (gradient * before).sum_to_size(decay.shape), gradient, decay[:, 0] * gradient[:, 0]


def one_by_one(x: Tensor) -> bool:
    """Whether the times of (batch, length, ...) are taken one after the other."""
    return x.device.type == "cpu" and x.numel() >= ENOUGH * x.shape[1]


def apart(layout: Layout, width: int, calls: int) -> bool:
    """Whether packed texts are taken one after the other, because padding would cost more than the calls of each.

    Args:
        width: numbers of one time of a text.
        calls: numbers that are computed in the time of a text's calls.
    """
    padding = layout.batch * layout.length - sum(layout.lengths)
    return layout.packed and padding * width >= layout.batch * calls


def accumulate(decay: Tensor, states: Tensor, start: Tensor, *, keeps: bool = False) -> Tensor:
    """Turn inputs (batch, length, ...) into states, in place; `keeps`: `decay` is not used up."""
    if one_by_one(states):
        for factor, state in zip(decay.unbind(1), states.unbind(1), strict=True):
            start = state.addcmul_(factor, start)
        return states
    decay = decay.clone() if keeps else decay
    states[:, 0].addcmul_(decay[:, 0], start)
    for _, into, source, whole in steps(states.shape[1]):
        states[:, into].addcmul_(decay[:, into], states[:, source])
        if whole:
            decay[:, into].mul_(decay[:, source])
    return states


def accumulate_backwards(decay: Tensor, gradient: Tensor) -> Tensor:
    """Turn gradients of states (batch, length, ...) into those of inputs, in place."""
    if one_by_one(gradient):
        times = reversed(list(zip(decay.unbind(1), gradient.unbind(1), strict=True)))
        for (factor, later), (_, earlier) in pairwise(times):
            earlier.addcmul_(factor, later)
        return gradient
    decay = torch.cat((decay[:, 1:], decay[:, :1]), 1)  # what was multiplied with a state is that of the next time
    for _, into, source, whole in steps(gradient.shape[1], backwards=True):
        gradient[:, into].addcmul_(decay[:, into], gradient[:, source])
        if whole:
            decay[:, into].mul_(decay[:, source])
    return gradient


def steps(length: int, *, backwards: bool = False) -> Iterator[tuple[int, slice, slice, bool]]:
    """(distance, places that take up, places that they take from, whether these are whole blocks) of a prefix sum."""
    spans = [2**power for power in range((length - 1).bit_length())]
    for span, first in [(k, 2 * k - 1) for k in spans] + [(k, 3 * k - 1) for k in reversed(spans)]:
        if first < length:
            begin = (length - 1 - first) % (2 * span) if backwards else first - span
            earlier, later = slice(begin, length - span, 2 * span), slice(begin + span, length, 2 * span)
            into, source = (earlier, later) if backwards else (later, earlier)
            yield span, into, source, first == 2 * span - 1


@torch.library.custom_op("eir_seq::recurrence", mutates_args=())
def _whole_recurrence(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:
    """See `recurrence`."""
    return accumulate(decay, inputs.clone(), start, keeps=True)


@_whole_recurrence.register_fake
def _(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)
