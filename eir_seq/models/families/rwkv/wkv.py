"""Averages of values whose weights fade with time, computed for all times in parallel."""

from __future__ import annotations

import torch
from torch import Tensor

from eir_seq.models.layers.precision import small_exp
from eir_seq.models.layers.recurrence.linear_recurrence import one_by_one, recurrence, steps
from eir_seq.native import recurrences as native

Sums = tuple[Tensor, Tensor, Tensor]
"""Weighted sum of values and sum of weights, both over exp of the third: (batch, width) each, in float32 or better."""


def wkv(key: Tensor, value: Tensor, rate: Tensor, bonus: Tensor, start: Sums) -> tuple[Tensor, Sums]:
    """Averages of values with weights exp(key), which fade by exp(-rate) at each later time but the next.

    The weight of the current value is exp(key + bonus) instead. As keys have no bounds, sums are kept over exp of
    their greatest term. That term is only a scale, so gradients need not go through it.

    Args:
        key, value: (batch, length, width), in float32 or better, like all that follows.
        rate, bonus: (width); `rate` above zero.
        start: the sums before the first time.

    Returns:
        Averages, like `value`, and the sums after the last time.
    """
    if native.serves(key, value, rate, bonus, *start):
        return native.wkv(key, value, rate, bonus, start)
    maximum = _whole_maximum if torch.compiler.is_exporting() else _decayed_maximum
    top = maximum(key.detach(), rate.detach(), start[2].detach())
    last_top = torch.cat((start[2][:, None], top[:, :-1]), 1)
    weight = small_exp(key - top)
    first = torch.stack(start[:2], 1)
    sums = recurrence(small_exp(last_top - rate - top)[:, :, None], torch.stack((weight * value, weight), 2), first)
    above, below = torch.cat((first[:, None], sums[:, :-1]), 1).unbind(2)
    scale = torch.maximum(last_top, key + bonus).detach()
    old, new = small_exp(last_top - scale), small_exp(key + bonus - scale)
    last = sums[:, -1]
    return (old * above + new * value) / (old * below + new), (last[:, 0], last[:, 1], top[:, -1])


def wkv_of_next(key: Tensor, value: Tensor, rate: Tensor, bonus: Tensor, start: Sums) -> tuple[Tensor, Sums]:
    """The same for one time: `key`, `value` and the average are (batch, width)."""
    above, below, last_top = start
    own = key + bonus
    scale = torch.maximum(last_top, own)
    old, new = torch.exp(last_top - scale), torch.exp(own - scale)
    average = torch.addcmul(new * value, old, above) / torch.addcmul(new, old, below)
    faded = last_top - rate
    top = torch.maximum(faded, key)
    old, new = torch.exp(faded - top), torch.exp(key - top)
    return average, (torch.addcmul(new * value, old, above), torch.addcmul(new, old, below), top)


def _decayed_maximum(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:
    """m_t = max(m_(t-1) - rate, inputs_t) for (batch, length, width), (width) and (batch, width)."""
    found = inputs.clone()
    if one_by_one(found):
        for value in found.unbind(1):
            start = torch.maximum(value, start - rate, out=value)
        return found
    found[:, 0] = torch.maximum(found[:, 0], start - rate)
    for distance, into, source, _ in steps(found.shape[1]):
        found[:, into] = torch.maximum(found[:, into], found[:, source] - distance * rate)
    return found


@torch.library.custom_op("eir_seq::decayed_maximum", mutates_args=())
def _whole_maximum(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:
    """See `_decayed_maximum`."""
    return _decayed_maximum(inputs, rate, start)


@_whole_maximum.register_fake
def _(inputs: Tensor, rate: Tensor, start: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)
