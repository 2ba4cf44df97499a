"""Where a run stands, and the value by which its evaluations are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eir_seq.training.checkpoints import STATE, read_json

STATE_KEY = "eir_seq"
"""That of the `RunState` in a checkpoint."""


@dataclass
class RunState:
    """Where a run stands: all of it that is neither weights nor optimizer. Saved with every checkpoint."""

    epoch: int = 0
    """Epochs done."""
    batches_done: int = 0
    """Batches done in the epoch after those."""
    step: int = 0
    """Optimizer steps done."""
    schedule_steps: int | None = None
    """Steps that the schedule of the learning rate covers; None in checkpoints of versions that did not note it."""
    evaluation_due: bool = False
    """The evaluation that belongs to this step has not been done yet."""
    best_value: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    """Epoch of that step, counted from 1."""
    without_improvement: int = 0
    """Evaluations since the best one that had a value."""
    undefined: int = 0
    """Evaluations in which the monitored value was undefined."""
    stopped_early: bool = False
    metrics_bytes: int = 0
    """Size of metrics.csv."""
    metrics_sha256: str = ""
    """Its hash; empty in checkpoints of versions that did not note it."""
    samples_bytes: int = 0
    """Size of samples.csv."""
    samples_sha256: str = ""
    running: dict[str, Any] = field(default_factory=dict)
    """Training losses since they were last written."""
    train_rows: dict[str, Any] = field(default_factory=dict)
    """The training rows that are still to be measured."""
    plateau: dict[str, Any] = field(default_factory=dict)
    """The `eir_seq.training.plateau.Plateau` of a schedule that follows the monitored value."""


@dataclass(frozen=True)
class Monitor:
    """The value by which evaluations are compared."""

    output: str
    metric: str
    mode: str

    def __str__(self) -> str:
        return f"trainer.monitor: {self.metric}" + (f" of outputs.{self.output}" if self.output else "")

    def better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Whether `value` is better than another one by more than `by`."""
        if than is None:
            return True
        return value < than - by if self.mode == "min" else value > than + by


def best_step_of(checkpoint: Path) -> int | None:
    """The step whose weights a resumable checkpoint names as the best; None if it names none or is damaged."""
    return noted(checkpoint, "best_step")


def noted(checkpoint: Path, key: str) -> int | None:
    """An integer of the `RunState` in a resumable checkpoint; None if it is not there or damaged."""
    value = recorded(checkpoint).get(key)
    assert value is None or isinstance(value, int)
    return value


def recorded(checkpoint: Path) -> dict[str, Any]:
    """The `RunState` in a resumable checkpoint; empty if it is damaged."""
    try:
        state = read_json(checkpoint / STATE)[STATE_KEY]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return state if isinstance(state, dict) else {}
