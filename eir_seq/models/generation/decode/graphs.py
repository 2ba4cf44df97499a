"""Steps replayed as CUDA graphs: the launches of all kernels of a step are one.

A graph repeats the same kernels on the same addresses. So what differs from step to step is computed before and copied
to where the graph reads it: states, rotations, masks, and the columns that keys are written to (`Past.at`). Keys must
stay where they are, so a static cache is needed. There is one graph for each number of columns that attention reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.generation.decode.attention import TokenContext

log = logging.getLogger(__name__)

Step = Callable[[Tensor, TokenContext], Tensor]
"""States (rows, width) and their context -> what the step makes of them."""


class Replayed:
    """A step that is run once for each shape, captured at its second use, and replayed from then on.

    What it returns is overwritten by the next step. A step that CUDA refuses to capture is run as before.
    """

    def __init__(self, step: Step, inputs: Mapping[Any, Callable[[TokenContext], Tensor]]) -> None:
        """`inputs`: what layers read besides the states, by its key in the memo of the context."""
        self._step, self._inputs = step, inputs
        self._warm: set[int] = set()
        self._captured: dict[int, _Capture] = {}
        self._refused = False
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, x: Tensor, ctx: TokenContext) -> Tensor:
        """See `Step`."""
        shape = ctx.past.seen
        if self._refused:
            return self._step(x, ctx)
        if shape not in self._warm:
            self._warm.add(shape)
            return self._on_side_stream(x, ctx)
        given = {key: make(ctx) for key, make in self._inputs.items()}
        if shape not in self._captured:
            try:
                self._captured[shape] = self._capture(x, given, ctx)
            except RuntimeError as error:
                log.warning("steps of generation are not replayed: %s", str(error).partition("\n")[0])
                self._refused = True
                return self._step(x, ctx)
        return self._captured[shape].replay(x, given)

    def _on_side_stream(self, x: Tensor, ctx: TokenContext) -> Tensor:
        """As it will be captured, so that libraries allocate what they need there."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = self._step(x, ctx)
        current.wait_stream(self._stream)
        return found

    def _capture(self, x: Tensor, given: Mapping[Any, Tensor], ctx: TokenContext) -> _Capture:
        states, buffers = x.clone(), {key: value.clone() for key, value in given.items()}
        graph = torch.cuda.CUDAGraph()
        own = replace(ctx, _memo=dict(buffers))
        # other threads may use the device meanwhile
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            found = self._step(states, own)
        return _Capture(graph, states, buffers, found)


class _Capture:
    """A graph, the addresses that it reads, and what it writes."""

    def __init__(self, graph: Any, states: Tensor, buffers: dict[Any, Tensor], found: Tensor) -> None:
        self.graph, self.states, self.buffers, self.found = graph, states, buffers, found

    def replay(self, x: Tensor, given: Mapping[Any, Tensor]) -> Tensor:
        """A step on other states and inputs."""
        self.states.copy_(x)
        for key, value in given.items():
            self.buffers[key].copy_(value)
        self.graph.replay()
        return self.found
