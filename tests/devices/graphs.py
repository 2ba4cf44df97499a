"""CUDA graphs of the simulated device: a graph holds operations with the tensors that they read and write.

A replay repeats them on the same memory. Whatever Python decided or computed apart from the device during the capture
stays as it was, and what a capture computed is not there until a replay: as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


@dataclass
class Graph:
    """What a capture recorded."""

    operations: list[tuple[Callable[..., Any], Any, Mapping[str, Any], Any]] = field(default_factory=list)
    replays: int = 0

    def note(self, func: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """An operation on values."""
        self.operations.append((func, args, kwargs, result))

    def forget_values(self) -> None:
        """No operation has run: memory that only the capture knows holds anything."""
        for func, args, kwargs, result in self.operations:
            known = {x.data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
            for made in tree_leaves(result):
                fresh = isinstance(made, Tensor) and made.data_ptr() not in known and not func.is_view
                if fresh and made.is_floating_point():
                    made.fill_(torch.nan)

    def replay(self) -> None:
        """Repeat all operations."""
        self.replays += 1
        for func, args, kwargs, result in self.operations:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder:
    """Records the captures of a device. `graphs`: all that were captured."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.running: Graph | None = None

    @contextmanager
    def capture(self, graph: Graph, **_: Any) -> Iterator[None]:
        """``torch.cuda.graph``."""
        self.running = graph
        try:
            yield
        finally:
            self.running = None
        graph.forget_values()
        self.graphs.append(graph)

    def refuse(self, what: str) -> None:
        """Something that makes the CPU wait, or reads memory of the CPU."""
        if self.running is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    @property
    def functions(self) -> dict[str, Any]:
        """What ``torch.cuda`` offers for captures."""
        return {
            "CUDAGraph": Graph,
            "graph": self.capture,
            "graph_pool_handle": lambda: (0, 0),
            "Stream": _Stream,
            "stream": nullcontext,
            "current_stream": _Stream,
        }


class _Stream:
    def wait_stream(self, other: _Stream) -> None:
        """All streams are one."""
