"""A monitored metric without a value: reported before training where the rows show it, else not compared."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.outputs.classification.output import FittedClassification
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.run import train
from tests.training.harness import Watcher, experiment, outcome, run, same
from tests.training.table import table_experiment


@pytest.mark.parametrize("command", [train, check])
def test_rows_of_one_class_are_reported_before_training(command: Callable[[Any], Any], tmp_path: Path) -> None:
    with (tmp_path / "validation.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "text", "mood", "score"], ["v1", "a day", "good", 1], ["v2", "a", "good", 1]]
        )
    data = {**table_experiment(tmp_path).data.model_dump(), "validation": str(tmp_path / "validation.csv")}
    for output, metric, reason in (
        ("mood", "auroc", "all 2 rows are of class 'good'"),
        ("score", "pearson", "the target of all 2 rows is 1"),
    ):
        config = table_experiment(tmp_path, data=data, trainer={"monitor": {"output": output, "metric": metric}})
        with pytest.raises(UserError) as refused:
            command(config)
        (fault,) = refused.value.faults
        assert fault.place == "trainer.monitor.metric"
        assert fault.message.startswith(
            f"{metric!r} of outputs.{output} is undefined on the validation rows: {reason};"
        )
    assert not (tmp_path / "run").exists()


EVALUATE = FittedClassification.evaluate


def measured_as(monkeypatch: pytest.MonkeyPatch, values: list[float | None]) -> None:
    """Evaluations find these accuracies, one after another; None: none at all."""
    left = list(values)

    def found(self: FittedClassification, raw: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        metrics = EVALUATE(self, raw, target)
        del metrics["accuracy"]
        value = left.pop(0)
        return metrics if value is None else {**metrics, "accuracy": value}

    monkeypatch.setattr(FittedClassification, "evaluate", found)


MONITOR = {"monitor": {"output": "y", "metric": "accuracy"}, "early_stopping": {"patience": 2}}


def test_undefined_values_use_up_no_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(trainer={**MONITOR, "max_epochs": 9})
    values = [None, 0.5, None, 0.4, math.nan, None, 0.3, 0.9, 0.9]
    measured_as(monkeypatch, values)
    watcher = Watcher()
    expected = outcome(tmp_path / "whole", run(config, tmp_path / "whole", watcher))
    state = expected[0]
    assert (state.stopped_early, state.epoch, state.best_epoch, state.undefined) == (True, 7, 2, 4)
    assert len([line for line in watcher.lines if "is undefined" in line]) == 1

    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 7 * 4 + 3:
            raise Killed

    measured_as(monkeypatch, values)
    with pytest.raises(Killed):
        run(config, tmp_path / "cut", Watcher(at_step=kill))
    measured_as(monkeypatch, values[4:])
    watcher = Watcher()
    assert same(outcome(tmp_path / "cut", run(config, tmp_path / "cut", watcher)), expected)
    assert not [line for line in watcher.lines if "is undefined" in line], "once per run"


def test_without_any_value_the_last_weights_are_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_as(monkeypatch, [None] * 9)
    monitor = {"output": "mood", "metric": "accuracy"}
    result = train(table_experiment(tmp_path, trainer={"monitor": monitor, "early_stopping": {"patience": 1}}))
    assert (result["epochs"], result["stopped_early"], result["best_step"]) == (2, False, None)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("warning: trainer.monitor: accuracy of outputs.mood is undefined at step 6") == 1
    assert "was undefined in every evaluation: the last weights count as the best" in log
    read_bundle(tmp_path / "run" / "bundle")
