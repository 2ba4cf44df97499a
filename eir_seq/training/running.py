"""Metrics of the rows that were trained on last, from the outputs that training has computed anyway."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.measure import OutputMetrics
from eir_seq.training.evaluation import Batch

MOST_ROWS = 2048
"""Rows that are kept of each output; older ones are forgotten."""


class TrainingRows:
    """Raw outputs and targets of the last training rows, on their device until they are measured.

    Args:
        outputs: the fitted outputs by name.
    """

    def __init__(self, outputs: Mapping[str, FittedOutput]) -> None:
        self.outputs = outputs
        self._kept: dict[str, deque[tuple[Tensor, Tensor]]] = {name: deque() for name in outputs}

    def add(self, raw: Mapping[str, Tensor], batch: Batch) -> None:
        """Keep raw outputs (batch, ...) and targets of a batch, of rows that have a target and are not mixed."""
        labelled = batch.get("labelled", {})
        whole = batch["mixing"]["share"] == 1 if "mixing" in batch else None
        for name, kept in self._kept.items():
            values, target = raw[name].detach(), batch["targets"][name]
            rows = labelled.get(name)
            if whole is not None and self.outputs[name].config.has_row_losses:
                rows = whole.nonzero().flatten() if rows is None else rows[whole[rows]]
            if rows is not None:
                values, target = values[rows], target[rows]
            if not len(target):
                continue
            kept.append((values.float(), target))
            while sum(len(part) for _, part in kept) - len(kept[0][1]) >= MOST_ROWS:
                kept.popleft()

    def measured(self) -> dict[tuple[str, str], float]:
        """The metrics of all rows by output and name, without the loss and without single classes; forgets the rows."""
        found: dict[tuple[str, str], float] = {}
        for name, kept in self._kept.items():
            metrics = OutputMetrics(self.outputs[name])
            while kept:
                metrics.update(*kept.popleft())
            values = metrics.compute()
            found |= {(name, key): value for key, value in values.items() if key != "loss" and "(" not in key}
        return found

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly."""
        return {name: [list(part) for part in kept] for name, kept in self._kept.items()}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        for name, parts in state.items():
            self._kept[name] = deque((raw.to(device), target.to(device)) for raw, target in parts)
