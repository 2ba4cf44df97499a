"""A run that is given another end: its learning rate, what is said, and that it still resumes exactly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.optimization import SchedulerConfig
from eir_seq.errors import UserError
from eir_seq.training.checkpoints import STATE, read_json
from eir_seq.training.fit import schedule_from
from eir_seq.training.module import TrainingModule
from eir_seq.training.optimization import learning_rate_factor, schedule_steps
from eir_seq.training.run import train
from eir_seq.training.run_state import STATE_KEY
from tests.training.harness import Watcher, experiment, outcome, run, same
from tests.training.table import table_experiment


@pytest.mark.parametrize(
    ("schedule", "before", "step", "total", "rates"),
    [
        ({"type": "constant", "warmup": 0}, 10, 10, 20, (1.0, 1.0)),
        ({"type": "linear", "warmup": 0, "final_ratio": 0.1}, 10, 10, 20, (0.1, 0.1)),
        ({"type": "linear", "warmup": 0, "final_ratio": 0.1}, 10, 5, 20, (0.55, 0.1)),
        ({"type": "cosine", "warmup": 2, "final_ratio": 0.2}, 10, 10, 20, (0.2, 0.2)),
        ({"type": "one-cycle", "warmup": 2}, 10, 10, 20, (4e-6, 4e-6)),
        ({"type": "linear", "warmup": 0}, 20, 5, 10, (0.75, 0.55)),
    ],
)
def test_continue_keeps_the_schedule_and_its_last_rate(
    schedule: dict[str, Any], before: int, step: int, total: int, rates: tuple[float, float]
) -> None:
    config = SchedulerConfig(**schedule, extend="continue")
    covered, said = schedule_steps(config, 1.0, before=before, step=step, total=total)
    assert covered == before
    factor = learning_rate_factor(config, covered)
    assert (factor(step), factor(total - 1)) == pytest.approx(rates)
    assert said is not None
    assert f"keeps the schedule of {before:,} steps" in said
    covered, said = schedule_steps(SchedulerConfig(**schedule), 1.0, before=before, step=step, total=total)
    assert covered == total
    assert (said is None) == (schedule["type"] == "constant"), "a rate that does not jump is not spoken of"


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_has_ended_at_zero_cannot_continue(schedule: Any) -> None:
    config = SchedulerConfig(type=schedule, extend="continue")
    with pytest.raises(
        UserError, match=r"scheduler\.extend: 'continue' would train from step 11 to 20 at a learning rat"
    ):
        schedule_steps(config, 1.0, before=10, step=10, total=20)
    with pytest.raises(UserError, match="would train from step 11 to 20"):
        schedule_steps(config, 1.0, before=10, step=3, total=20)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each optimizer step."""
    found: list[float] = []
    original = TrainingModule.configure_gradient_clipping

    def spy(self: TrainingModule, optimizer: torch.optim.Optimizer, **rest: Any) -> None:
        found.append(optimizer.param_groups[0]["lr"])
        original(self, optimizer, **rest)

    monkeypatch.setattr(TrainingModule, "configure_gradient_clipping", spy)
    return found


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("extend", ["rescale", "continue"])
def test_the_rate_of_an_extended_run(extend: str, rates: list[float], tmp_path: Path) -> None:
    shape = {"type": "cosine", "warmup": 2, "final_ratio": 0.1}
    short = experiment(scheduler=shape, trainer={"max_epochs": 2})  # 14 steps
    long = experiment(scheduler={**shape, "extend": extend}, trainer={"max_epochs": 3, "checkpoint_every": 2})
    for name in ("whole", "cut"):
        run(short, tmp_path / name)
    rates.clear()
    watcher = Watcher()
    expected = outcome(tmp_path / "whole", run(long, tmp_path / "whole", watcher))
    factor = learning_rate_factor(long.scheduler, 14 if extend == "continue" else 21)
    lr = long.optimizer.lr
    assert rates == [lr * factor(step) for step in range(14, 21)]
    (said,) = [line for line in watcher.lines if "schedule of 14 steps" in line]
    assert ("is now one of 21" in said) == (extend == "rescale")
    assert expected[0].schedule_steps == (14 if extend == "continue" else 21)

    def kill(step: int) -> None:
        if step == 17:
            raise Killed

    with pytest.raises(Killed):
        run(long, tmp_path / "cut", Watcher(at_step=kill))
    rates.clear()
    assert same(outcome(tmp_path / "cut", run(long, tmp_path / "cut")), expected)
    assert rates == [lr * factor(step) for step in range(16, 21)]


def test_a_rate_of_zero_is_refused_and_the_run_left_as_it_was(tmp_path: Path) -> None:
    trainer = {"max_epochs": 1, "keep_optimizer_state": True}
    train(table_experiment(tmp_path, trainer=trainer))
    result, config = (tmp_path / "run" / "result.json").read_bytes(), (tmp_path / "run" / "config.yaml").read_bytes()
    longer = {**trainer, "max_epochs": 2}
    with pytest.raises(
        UserError, match=r"scheduler\.extend: 'continue' would train from step 7 to 12 at a learning rate"
    ):
        train(table_experiment(tmp_path, trainer=longer, scheduler={"extend": "continue"}))
    assert (tmp_path / "run" / "result.json").read_bytes() == result
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config
    train(table_experiment(tmp_path, trainer=longer))
    assert "the schedule of 6 steps is now one of 12" in (tmp_path / "run" / "log.txt").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 12


def test_checkpoints_that_do_not_note_their_schedule(tmp_path: Path) -> None:
    """Those of earlier versions: the rate that they hold tells whether it jumps."""
    shape = {"type": "cosine", "warmup": 2, "final_ratio": 0.1}
    run(experiment(scheduler=shape, trainer={"max_epochs": 2}), tmp_path)  # 14 steps
    (checkpoint,) = (tmp_path / "checkpoints").glob("step-00000014")
    state = read_json(checkpoint / STATE)
    del state[STATE_KEY]["schedule_steps"]
    (checkpoint / STATE).write_text(json.dumps(state))
    rescaled, continued = (experiment(scheduler={**shape, "extend": how}) for how in ("rescale", "continue"))
    total, said = schedule_from(rescaled, checkpoint, 21)
    assert total == 21
    assert said is not None
    assert re.search(r"now one of 21 steps: the learning rate at step 15 is 0\.00\d+ instead of 0\.00\d+$", said), said
    with pytest.raises(UserError, match=r"scheduler\.extend: 'continue' needs to know the schedule"):
        schedule_from(continued, checkpoint, 21)
    for config in (rescaled, continued):
        assert schedule_from(config, checkpoint, 14) == (14, None)
