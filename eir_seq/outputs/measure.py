"""The rows of an evaluation, and the metrics of an output over all of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import RunFailed
from eir_seq.outputs.base import FittedOutput, by_chunks
from eir_seq.registry import imported


class KeptRows:
    """Rows of an evaluation, batch by batch, on the CPU; each value is held once, while they are put together, too."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, part: Tensor, rows: Tensor) -> None:
        """Keep a batch, (batch, ...), of the rows with these positions, (batch,); half precision becomes single."""
        assert len(part) == len(rows), (part.shape, len(rows))
        kind = torch.float32 if part.is_floating_point() and part.dtype.itemsize < 4 else part.dtype
        self._parts.append(part.detach().to("cpu", kind, copy=True))
        self._rows.append(rows)

    def pop_all(self) -> list[tuple[Tensor, Tensor]]:
        """All batches, each with its rows, and forget them."""
        found = list(zip(self._parts, self._rows, strict=True))
        self._parts, self._rows = [], []
        return found

    def take(self, places: Tensor) -> Tensor:
        """All rows, (rows, ...), and forget them.

        Args:
            places: the place in the result by the row's position.

        Rows with values per word, (batch, words, width), get zeros after the last.
        """
        first = self._parts[0]
        shape = [max(part.shape[axis] for part in self._parts) for axis in range(1, first.dim())]
        joined = first.new_zeros(sum(map(len, self._parts)), *shape)
        while self._parts:  # what is copied is released, and zeros take no memory before
            part, rows = self._parts.pop(), self._rows.pop()
            inside: Any = (places[rows], *(slice(size) for size in part.shape[1:]))
            joined[inside] = part
        return joined


class OutputMetrics:
    """Gathers the raw outputs and targets of an evaluation and computes the output's metrics at the end.

    Every metric is a function of all rows at once, so that it does not depend on how the rows were cut into batches.
    """

    def __init__(self, output: FittedOutput) -> None:
        self.output = output
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._raw, self._target, self._count = KeptRows(), KeptRows(), 0

    def update(self, raw: Tensor, target: Tensor) -> None:
        """Add a batch: raw (batch, output_size), target (batch,), on any device."""
        rows = torch.arange(self._count, self._count + len(raw))
        self._raw.add(raw, rows)
        self._target.add(target, rows)
        self._count += len(raw)

    def compute(self) -> dict[str, float]:
        """Metrics of all rows so far, which are forgotten; empty without rows.

        Raises:
            RunFailed: a raw output is not finite.
        """
        if not self._count:
            return {}
        places = torch.arange(self._count)
        raw, target = self._raw.take(places), self._target.take(places)
        self.reset()
        return measure(self.output, raw, target)


def measure(output: FittedOutput, raw: Tensor, target: Tensor) -> dict[str, float]:
    """All metrics of whole rows, those of `evaluate` and those that have their own functions.

    Args:
        output: the fitted output.
        raw: its raw outputs, (rows, output_size), on the CPU.
        target: its targets, (rows, ...), on the CPU.

    Raises:
        RunFailed: a raw output is not finite.
    """
    bad = len(raw) - int(by_chunks(lambda rows: rows.isfinite().flatten(1).all(dim=1), raw).sum())
    if bad:
        raise RunFailed(f"outputs.{output.name}: the model's outputs are not finite on {bad} of {len(raw)} rows")
    values = output.evaluate(raw, target)
    for name, metric in output.config.metrics().items():
        if metric.function is not None:
            value = imported(metric.function)(output, raw, target)
            if value is not None and math.isfinite(value):
                values[name] = float(value)
    return values
