"""Linear recurrences, computed for all times in parallel.

States that fade by a factor of their own at every time are prefix sums of an associative operation, so they need
about twice the logarithm of the length in steps instead of one step per time (Brent and Kung, A regular layout for
parallel adders, IEEE Transactions on Computers 31(3), 1982), and twice the work. Nothing is ever divided by a product
of factors, which is why strong fading does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_CHUNK = {"cpu": 2**20}
LARGEST_CHUNK_ELSEWHERE = 2**25
"""Numbers in the states of all times of a chunk: on a CPU they should stay in its caches."""
SHORTEST_CHUNK = 16
"""Times in a chunk, however large a state is: a chunk of one time would be a loop over time."""


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 if it is narrower."""
    return x if x.dtype == torch.float64 else x.float()


def recurrence(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:
    """States h_t = decay_t h_(t-1) + inputs_t.

    Args:
        decay: (batch, length, ...), factors in [0, 1], broadcastable to `inputs`.
        inputs: (batch, length, ...).
        start: (batch, ...), the state in front of the first time.

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
        return _accumulate(decay.clone(), inputs.clone(), start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        decay, _, start = inputs
        ctx.save_for_backward(decay, start, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor) -> tuple[Tensor, ...]:
        decay, start, states = ctx.saved_tensors
        gradient = _accumulate_backwards(decay, of_states.clone())
        before = torch.cat((start[:, None], states[:, :-1]), 1)
        return (gradient * before).sum_to_size(decay.shape), gradient, decay[:, 0] * gradient[:, 0]


def _accumulate(decay: Tensor, states: Tensor, start: Tensor) -> Tensor:
    """Turn inputs (batch, length, ...) into states, in place; `decay` is used up."""
    states[:, 0].addcmul_(decay[:, 0], start)
    for _, into, source, whole in _steps(states.shape[1]):
        states[:, into].addcmul_(decay[:, into], states[:, source])
        if whole:
            decay[:, into].mul_(decay[:, source])
    return states


def _accumulate_backwards(decay: Tensor, gradient: Tensor) -> Tensor:
    """Turn gradients of states (batch, length, ...) into those of inputs, in place."""
    decay = torch.cat((decay[:, 1:], decay[:, :1]), 1)  # what was multiplied with a state is that of the next time
    for _, into, source, whole in _steps(gradient.shape[1], backwards=True):
        gradient[:, into].addcmul_(decay[:, into], gradient[:, source])
        if whole:
            decay[:, into].mul_(decay[:, source])
    return gradient


def _steps(length: int, *, backwards: bool = False) -> Iterator[tuple[int, slice, slice, bool]]:
    """(distance, places that take up, places that they take from, whether these are whole blocks) of a prefix sum."""
    spans = [2**power for power in range((length - 1).bit_length())]
    for span, first in [(k, 2 * k - 1) for k in spans] + [(k, 3 * k - 1) for k in reversed(spans)]:
        if first < length:
            begin = (length - 1 - first) % (2 * span) if backwards else first - span
            earlier, later = slice(begin, length - span, 2 * span), slice(begin + span, length, 2 * span)
            into, source = (earlier, later) if backwards else (later, earlier)
            yield span, into, source, first == 2 * span - 1


Sums = tuple[Tensor, Tensor, Tensor]
"""Weighted sum of values and sum of weights, both over exp of the third: (batch, width) each, in float32 or better."""


def fading_average(key: Tensor, value: Tensor, rate: Tensor, bonus: Tensor, start: Sums) -> tuple[Tensor, Sums]:
    """Averages of values with weights exp(key), which fade by exp(-rate) at each later time but the next.

    The weight of the current value is exp(key + bonus) instead. As keys have no bounds, sums are kept over exp of
    their greatest term. That term is only a scale, so gradients need not go through it.

    Args:
        key, value: (batch, length, width), in float32 or better, like all that follows.
        rate, bonus: (width); `rate` above zero.
        start: the sums in front of the first time.

    Returns:
        Averages, like `value`, and the sums behind the last time.
    """
    maximum = _whole_maximum if torch.compiler.is_exporting() else _fading_maximum
    top = maximum(key.detach(), rate.detach(), start[2])
    last_top = torch.cat((start[2][:, None], top[:, :-1]), 1)
    weight = torch.exp(key - top)
    first = torch.stack(start[:2], 1)
    sums = recurrence(torch.exp(last_top - rate - top)[:, :, None], torch.stack((weight * value, weight), 2), first)
    above, below = torch.cat((first[:, None], sums[:, :-1]), 1).unbind(2)
    scale = torch.maximum(last_top, key + bonus).detach()
    old, new = torch.exp(last_top - scale), torch.exp(key + bonus - scale)
    last = sums[:, -1]
    return (old * above + new * value) / (old * below + new), (last[:, 0], last[:, 1], top[:, -1])


def _fading_maximum(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:
    """m_t = max(m_(t-1) - rate, inputs_t) for (batch, length, width), (width) and (batch, width)."""
    found = inputs.clone()
    found[:, 0] = torch.maximum(found[:, 0], start - rate)
    for distance, into, source, _ in _steps(found.shape[1]):
        found[:, into] = torch.maximum(found[:, into], found[:, source] - distance * rate)
    return found


def selective_scan(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """States h_t = exp(step_t rates) h_(t-1) + step_t x_t write_t and what is read of them, y_t = read_t h_t.

    The states of all times are never held at once: they are computed chunk by chunk, in the backward pass once more.

    Args:
        x, step: (batch, length, width).
        rates: (size, width), below zero.
        write, read: (batch, length, size).
        start: (batch, size, width), the state in front of the first time.

    Returns:
        y, (batch, length, width), and the last state, like `start`. All of it is in float32 or better.
    """
    if torch.compiler.is_exporting():
        y, last = _whole_scan(x, step, rates, write, read, start)
        return y, last
    return _scan(x, step, rates, write, read, start)


def _scan(x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    largest = LARGEST_CHUNK.get(x.device.type, LARGEST_CHUNK_ELSEWHERE)
    length = max(SHORTEST_CHUNK, largest // max(1, start.numel()))
    found = []
    for chunk in zip(*(tensor.split(length, 1) for tensor in (x, step, write, read)), strict=True):
        y, start = _SelectiveScan.apply(*chunk, rates, start)
        found.append(y)
    return torch.cat(found, 1), start


class _SelectiveScan(torch.autograd.Function):
    """One chunk of `selective_scan`, of which only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(
        x: Tensor, step: Tensor, write: Tensor, read: Tensor, rates: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        decay, states = _decay_and_inputs(x, step, write, rates)
        states = _accumulate(decay, states, start)
        with torch.autocast(x.device.type, enabled=False):
            return (read[:, :, None] @ states).squeeze(2), states[:, -1].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_last: Tensor) -> tuple[Tensor, ...]:
        x, step, write, read, rates, start = ctx.saved_tensors
        decay, states = _decay_and_inputs(x, step, write, rates)
        states = _accumulate(decay.clone(), states, start)
        with torch.autocast(x.device.type, enabled=False):
            gradient = read[..., None] @ of_y[:, :, None]
            gradient[:, -1] += of_last
            gradient = _accumulate_backwards(decay, gradient)
            of_read = (states @ of_y[..., None]).squeeze(3)
            of_write = (gradient @ (step * x)[..., None]).squeeze(3)
            of_product = (write[:, :, None] @ gradient).squeeze(2)
        gradient *= decay
        of_start = gradient[:, 0].clone()
        gradient *= torch.cat((start[:, None], states[:, :-1]), 1)  # now that of the exponents
        of_step = (gradient * rates).sum(2) + of_product * x
        of_rates = (gradient * step[:, :, None]).sum((0, 1))
        return of_product * step, of_step, of_write, of_read, of_rates, of_start


def _decay_and_inputs(x: Tensor, step: Tensor, write: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of a chunk, (batch, length, size, width) each."""
    with torch.autocast(x.device.type, enabled=False):
        return (step[:, :, None] * rates).exp_(), write[..., None] @ (step * x)[:, :, None]


# ------------------------------------------------------- operations of a graph whose length is known from the data only


@torch.library.custom_op("eir_seq::recurrence", mutates_args=())
def _whole_recurrence(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:
    """See `recurrence`."""
    return _accumulate(decay.clone(), inputs.clone(), start)


@torch.library.custom_op("eir_seq::fading_maximum", mutates_args=())
def _whole_maximum(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:
    """See `_fading_maximum`."""
    return _fading_maximum(inputs, rate, start)


@torch.library.custom_op("eir_seq::selective_scan", mutates_args=())
def _whole_scan(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """See `selective_scan`."""
    return _scan(x, step, rates, write, read, start)


@_whole_recurrence.register_fake
def _(decay: Tensor, inputs: Tensor, start: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


@_whole_maximum.register_fake
def _(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


@_whole_scan.register_fake
def _(x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(start)
