"""Seconds, bytes and products: what a step takes, and what the machine could do."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import eir_seq.models.layers.moe.experts  # noqa: F401  (its operations)
from eir_seq.models.layers.kernels import onednn, onednn_is_available
from eir_seq.native import library as native

Step = Callable[[Any], object]
PRODUCT = 1024
"""Rows and columns of the matrices whose product is the measure of the machine."""


@dataclass
class Times:
    """Seconds of a side in each round, of the process on all its cores and of the clock."""

    processor: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Those that other work disturbs least: of the clock where another device computes."""
        return self.wall if _on_gpu() else self.processor


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the process on all its cores, and of the clock."""
    processor, wall = time.process_time(), time.perf_counter()
    call()
    if _on_gpu():
        torch.cuda.synchronize()
    return time.process_time() - processor, time.perf_counter() - wall


def alternate(sides: Mapping[str, Step], rounds: Sequence[Any], warm_up: int = 1) -> dict[str, Times]:
    """Every side on the input of every round, in random order, so that the load of the machine falls on all alike.

    The first rounds warm up and are not counted.
    """
    found = {side: Times() for side in sides}
    for number, given in enumerate(rounds):
        for side in random.Random(number).sample(list(sides), len(sides)):  # noqa: S311
            processor, wall = timed(lambda side=side, given=given: sides[side](given))  # type: ignore[misc]
            if number >= warm_up:
                found[side].processor.append(processor)
                found[side].wall.append(wall)
    return found


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over rounds of their seconds over ours."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


@cache
def peak_step(dtype: torch.dtype, device: torch.device) -> Step:
    """A step of one large product by the faster of torch's kernels: what a device can do in a number format."""
    x, weight = torch.randn(2, PRODUCT, PRODUCT, device=device).to(dtype)
    kernels: list[Callable[[], object]] = [lambda: F.linear(x, weight)]
    if device.type == "cpu" and onednn_is_available():
        kernels.append(lambda: onednn(x, weight))
    best = min(kernels, key=lambda kernel: min(timed(kernel)[0] for _ in range(4)))

    def step(_: object) -> None:
        best()

    return step


PEAK_FLOPS = 2.0 * PRODUCT**3
"""Floating-point operations of a `peak_step`."""


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of a call; those of elements are not counted."""
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        call()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    batch, heads, rows, size = query
    return int(2 * batch * heads * rows * key[-2] * (size + value[-1]))


def _linear(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    rows = 1
    for size in x[:-1]:
        rows *= size
    return int(2 * rows * weight[0] * weight[1])


def _grouped(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return int(2 * x[0] * weight[1] * weight[2])


def _native_attention(query: Any, key: Any, value: Any, *problem: Any, **__: Any) -> int:
    """Of all pairs, as torch counts them also where attention is causal; in a window of those that it holds.

    Without values these are the keys.
    """
    query_lengths, key_lengths, _, _, _, shared, before, after, *_ = problem
    pairs = 0
    for queries, keys in zip(query_lengths, key_lengths, strict=True):
        if before < 0:
            pairs += queries * keys
            continue
        places = range(keys - queries, keys)
        pairs += sum(min(keys, place + after + 1) - max(0, place - before) for place in places)
        pairs += 0 if shared is None else queries * shared[1]
    return int(2 * query[1] * pairs * (key[2] + (key if value is None else value)[2]))


def _native_layers(x: Any, weights: Any, *_: Any, **__: Any) -> int:
    return sum(_linear((*x[:-1], weight[1]), weight) for weight in weights)


_FORMULAS: dict[Any, Callable[..., int]] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""Operations that torch's counter does not know, from the shapes of their arguments."""
_FORMULAS[torch.ops.eir_seq.grouped_linear] = _grouped
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _FORMULAS[torch.ops.mkldnn._linear_pointwise] = _linear


def _formulas() -> dict[Any, Callable[..., int]]:
    build = native.chosen()
    if build is None:
        return _FORMULAS
    operations = getattr(torch.ops, native.namespace(build.name))
    return {
        **_FORMULAS,
        operations.attention_forward: _native_attention,
        operations.feed_forward_forward: _native_layers,
        operations.bf16_linear_forward: _native_layers,
    }


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Bytes of tensors that live at once during a call, beyond those that lived before."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return int(torch.cuda.max_memory_allocated()) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    results: Any = recorded.profiler
    held = most = 0
    for event in results.kineto_results.events():  # in the order of time
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
