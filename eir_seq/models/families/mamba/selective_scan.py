"""The selective scan of mamba, computed for all times of a chunk in parallel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eir_seq.models.layers.recurrence.linear_recurrence import accumulate, accumulate_backwards
from eir_seq.native import recurrences as native

LARGEST_CHUNK = {"cpu": 2**20}

LARGEST_CHUNK_ELSEWHERE = 2**25
"""Numbers in the states of all times of a chunk: on a CPU they should stay in its caches."""

SHORTEST_CHUNK = 16
"""Times in a chunk, however large a state is: a chunk of one time would be a loop over time."""


def selective_scan(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """States h_t = exp(step_t rates) h_(t-1) + step_t x_t write_t and what is read of them, y_t = read_t h_t.

    The states of all times are never held at once: they are computed chunk by chunk, in the backward pass once more.

    Args:
        x, step: (batch, length, width).
        rates: (size, width), below zero.
        write, read: (batch, length, size).
        start: (batch, size, width), the state before the first time.

    Returns:
        y, (batch, length, width), and the last state, like `start`. All of it is in float32 or better.
    """
    if torch.compiler.is_exporting():
        y, last = _whole_scan(x, step, rates, write, read, start)
        return y, last
    return _scan(x, step, rates, write, read, start)


def _scan(x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    if native.serves(x, step, rates, write, read, start, states=len(rates)):
        return native.selective_scan(x, step, rates, write, read, start)
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
        states = accumulate(decay, states, start)
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
        states = accumulate(decay, states, start, keeps=True)
        with torch.autocast(x.device.type, enabled=False):
            gradient = read[..., None] * of_y[:, :, None]
            gradient[:, -1] += of_last
            gradient = accumulate_backwards(decay, gradient)
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
        return (step[:, :, None] * rates).exp_(), write[..., None] * (step * x)[:, :, None]


@torch.library.custom_op("eir_seq::selective_scan", mutates_args=())
def _whole_scan(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """See `selective_scan`."""
    return _scan(x, step, rates, write, read, start)


@_whole_scan.register_fake
def _(x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(start)
