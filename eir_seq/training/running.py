"""Running losses, and metrics of the rows that were trained on last."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.measure import OutputMetrics
from eir_seq.training.evaluation import Batch
from eir_seq.training.losses import Counts, mean_loss
from eir_seq.training.ranks import ALONE, Ranks

MOST_ROWS = 2048
"""Rows that are kept of each output; older ones are forgotten."""


class RunningLosses:
    """Mean training losses since the last look, without waiting for the device at each step.

    Args:
        ranks: the processes that share the rows of each batch; each keeps its own.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, list[float]] = {}

    def add(self, terms: Mapping[str, Tensor], counts: Counts) -> None:
        """Add what the rows of a batch add to the terms of each output's loss, (batch, terms), and their counts."""
        for name, value in terms.items():
            self._add(name, value.detach().sum(dim=0), counts[name])

    def _add(self, name: str, total: Tensor, counts: Sequence[float]) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        before = self.counts.get(name, [0.0] * len(counts))
        self.counts[name] = [old + new for old, new in zip(before, counts, strict=True)]

    def means(self) -> dict[str, float]:
        """The loss of each output over all rows of this process so far."""
        return {name: float(mean_loss(total, self.counts[name])) for name, total in self.sums.items()}

    def of_all(self) -> RunningLosses:
        """Those of all processes, for rank 0; nothing for the others."""
        found = RunningLosses()
        for sums, counts in self.ranks.gather(self.sums, self.counts):
            for name, total in sums.items():
                found._add(name, total, counts[name])
        return found

    def reset(self) -> None:
        """Forget all rows."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly; complete in rank 0."""
        return parts_of_all([{"sums": s, "counts": c} for s, c in self.ranks.gather(self.sums, self.counts)])

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        self.reset()
        for part in own_parts(state, self.ranks):
            for name, total in part["sums"].items():
                self._add(name, total.to(device), part["counts"][name])


def parts_of_all(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The states of all processes as one, for `own_parts`; of one process its own."""
    if not parts:
        return {}
    return parts[0] if len(parts) == 1 else {"parts": parts}


def own_parts(state: Mapping[str, Any], ranks: Ranks) -> Sequence[Mapping[str, Any]]:
    """The states that this process continues: its own, or all of them in rank 0 where there were more or fewer."""
    parts = state.get("parts", [state])
    if len(parts) == ranks.world_size:
        return [parts[ranks.rank]]
    return parts if ranks.is_first else []


class TrainingRows:
    """Raw outputs and targets of the last training rows, on their device until they are measured.

    Args:
        outputs: the fitted outputs by name.
        ranks: the processes that share the rows of each batch; rank 0 measures those of all.
    """

    def __init__(self, outputs: Mapping[str, FittedOutput], ranks: Ranks = ALONE) -> None:
        self.outputs, self.ranks = outputs, ranks
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
            while sum(len(part) for _, part in kept) - len(kept[0][1]) >= MOST_ROWS // self.ranks.world_size:
                kept.popleft()

    def measured(self) -> dict[tuple[str, str], float]:
        """The metrics of the rows of all processes by output and name, without the loss and without single classes, in
        rank 0; forgets the rows."""
        found: dict[tuple[str, str], float] = {}
        parts = [self._kept_of(part) for part in self._of_all()]
        for name, kept in self._kept.items():
            metrics = OutputMetrics(self.outputs[name])
            for part in parts:
                while part[name]:
                    metrics.update(*part[name].popleft())
            kept.clear()
            values = metrics.compute()
            found |= {(name, key): value for key, value in values.items() if key != "loss" and "(" not in key}
        return found

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly; complete in rank 0."""
        return parts_of_all(self._of_all())

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        for part in own_parts(state, self.ranks):
            for name, rows in self._kept_of(part, device).items():
                self._kept[name].extend(rows)

    def _of_all(self) -> list[dict[str, Any]]:
        """By process and output, pairs of raw outputs and targets; in rank 0."""
        own = {name: [list(part) for part in kept] for name, kept in self._kept.items()}
        if not self.ranks.several:
            return [own]
        tensors = {
            f"{name}/{place}/{what}": x
            for name, kept in own.items()
            for place, part in enumerate(kept)
            for what, x in enumerate(part)
        }
        counts = {name: len(kept) for name, kept in own.items()}
        return [
            {name: [[x[f"{name}/{i}/0"], x[f"{name}/{i}/1"]] for i in range(n)] for name, n in about.items()}
            for x, about in self.ranks.gather(tensors, counts)
        ]

    def _kept_of(
        self, part: Mapping[str, Any], device: torch.device | None = None
    ) -> dict[str, deque[tuple[Tensor, Tensor]]]:
        return {name: deque((raw.to(device), target.to(device)) for raw, target in rows) for name, rows in part.items()}
