"""Runs the fake experiment in a folder, and tells what it left there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eir_seq.config.schema import ExperimentConfig
from eir_seq.training.fit import fit
from eir_seq.training.loop import RunLoop
from eir_seq.training.monitor import monitor_of
from eir_seq.training.run_state import RunState
from eir_seq.training.signals import SignalGuard
from tests.training.fakes import FakeData, experiment, fitted_outputs, network

__all__ = ["Watcher", "experiment", "outcome", "run", "same"]


class Watcher:
    """A silent console; `at_step` is called after each optimizer step, `at_evaluation` after each evaluation."""

    def __init__(
        self,
        at_step: Callable[[int], object] = lambda step: None,
        at_evaluation: Callable[[int], object] = lambda step: None,
    ) -> None:
        self.at_step, self.at_evaluation = at_step, at_evaluation
        self.lines: list[str] = []
        self.steps: list[int] = []
        self.losses: list[float | None] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def step(self, step: int, total: int, epoch: int, loss: Callable[[], float | None]) -> None:
        self.steps.append(step)
        self.losses.append(loss())
        self.at_step(step)

    def evaluated(self, measurements: Any, best: bool) -> None:
        self.at_evaluation(measurements[0].step)


def run(
    config: ExperimentConfig,
    folder: Path,
    watcher: Watcher | None = None,
    data: FakeData | None = None,
    validate: bool = True,
) -> RunLoop:
    """Train in `folder` to the end, or to what `watcher` raises."""
    folder.mkdir(exist_ok=True)
    data = data or FakeData(config)
    outputs = fitted_outputs(config, data)
    watcher = watcher or Watcher()
    with SignalGuard(watcher.say) as signals:
        return fit(
            config,
            network(config, outputs),
            outputs,
            data,
            run_dir=folder,
            device=torch.device("cpu"),
            monitor=monitor_of(config),
            progress=watcher,
            signals=signals,
            validate=validate,
        )


def outcome(folder: Path, loop: RunLoop) -> tuple[RunState, dict[str, Tensor], dict[str, Tensor] | None, bytes]:
    """Where a run ended: its state, last weights, best weights and metrics.csv."""
    best = loop.state.best_step
    return (
        loop.state,
        loop.module.network.state_dict(),
        loop.store.read_best(best) if best is not None else None,
        (folder / "metrics.csv").read_bytes(),
    )


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two outcomes are equal to the last bit."""
    state, weights, best, metrics = one
    state2, weights2, best2, metrics2 = other
    return bool(
        state == state2
        and metrics == metrics2
        and weights.keys() == weights2.keys()
        and all(torch.equal(weights[name], weights2[name]) for name in weights)
        and (best is None) == (best2 is None)
        and (best is None or all(torch.equal(best[name], best2[name]) for name in best))
    )
