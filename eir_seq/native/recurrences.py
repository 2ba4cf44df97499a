"""Recurrences of rwkv and mamba by the native kernels, without gradients: states stay in registers."""

from __future__ import annotations

import torch
from torch import Tensor

from eir_seq.native import library
from eir_seq.native.norms import LANES

MOST_STATES = 64
"""Of a channel."""


def serves(*tensors: Tensor, states: int = 1) -> bool:
    """Whether the kernels take such tensors (..., width), here and now: float32, no gradients wanted.

    Args:
        states: of a channel.
    """
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and all(x.device.type == "cpu" and x.dtype is torch.float32 for x in tensors)
        and tensors[0].shape[-1] % LANES == 0
        and states <= MOST_STATES
        and library.available()
    )


def wkv(
    key: Tensor, value: Tensor, rate: Tensor, bonus: Tensor, start: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The averages of rwkv, and the sums after the last time.

    Args:
        key, value: (texts, length, width).
        rate, bonus: (width,).
        start: above, below, top before the first time, (texts, width) each.
    """
    given = [x.contiguous() for x in (key, value, rate, bonus, *start)]
    average, above, below, top = library.operations().wkv(*given)
    return average, (above, below, top)


def selective_scan(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """What mamba reads of its states, and the last state.

    Args:
        x, step: (texts, length, width).
        rates: (size, width), below zero.
        write, read: (texts, length, size).
        start: (texts, size, width).
    """
    given = (part.contiguous() for part in (x, step, rates, write, read, start))
    found: tuple[Tensor, Tensor] = library.operations().selective_scan(*given)
    return found
