"""The progress of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eir_seq.training.checkpoints import STATE, read_json

STATE_KEY = "eir_seq"
"""That of the `RunState` in a checkpoint."""


@dataclass
class RunState:
    """The progress of a run: all state that is neither weights nor optimizer. Saved with every checkpoint."""

    epoch: int = 0
    """Epochs done."""
    batches_done: int = 0
    """Batches done in the epoch after those."""
    window: list[int] = field(default_factory=lambda: [0, 0])
    """The place in streamed rows whose batches are not counted."""
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


def put_between_steps(loops: dict[str, Any], state: RunState) -> None:
    """Change the trainer's counters in a checkpoint to those between two steps (or two epochs).

    The trainer saves them as they are inside a hook: a batch processed and not completed. Resuming from that has its
    own path for each place of saving; resuming from between two steps has one.

    Args:
        loops: of Lightning's checkpoint.
        state: of the run.
    """
    fit: dict[str, Any] = loops["fit_loop"]
    fit["state_dict"] = {}
    epochs, batches = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    batches["total"]["completed"] = batches["total"]["processed"]
    batches["current"]["completed"] = batches["current"]["processed"]
    batches["is_last_batch"] = False
    if state.batches_done == 0:
        for counts in (epochs["total"], epochs["current"]):
            counts.update(dict.fromkeys(counts, state.epoch))
        batches["current"] = dict.fromkeys(batches["current"], 0)
    fit["epoch_loop.state_dict"] = {"_batches_that_stepped": state.step}
    for other in [name for name in loops if name != "fit_loop"]:
        del loops[other]
