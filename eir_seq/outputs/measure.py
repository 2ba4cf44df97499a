"""The metrics of an output over all rows of an evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eir_seq.errors import RunFailed
from eir_seq.outputs.base import FittedOutput, by_chunks
from eir_seq.outputs.kept import KeptRows
from eir_seq.registry import imported


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
