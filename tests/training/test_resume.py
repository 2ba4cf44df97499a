"""An interrupted run ends with the bits of an uninterrupted one.

Here the interruption is an exception inside one process, so that many places can be tried; `tests.campaign` kills
processes.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import RunFailed
from eir_seq.training import fit as fit_module
from eir_seq.training import loop as loop_module
from eir_seq.training.checkpoints import TENSORS
from eir_seq.training.signals import Stopped
from tests.training.harness import Watcher, experiment, outcome, run, same

OTHERS = [(1, None), (1, 2), (2, 1), (2, 2), (3, None), (3, 1)]
"""Batches of a step and steps between checkpoints, besides those of the fast tests."""
STEPS = 21  # three epochs of seven batches
ENDINGS: dict[str, Any] = {}


class Killed(BaseException):
    """Stands for kill -9: nothing gets to save or clean up after it."""


@pytest.fixture(autouse=True)
def _few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POINTS", 5)  # so that training losses are means over several steps


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outcome of an uninterrupted run of a config, computed once."""

    @cache
    def compute(text: str) -> Any:
        config = type(experiment()).model_validate_json(text)
        folder = tmp_path_factory.mktemp("whole")
        return outcome(folder, run(config, folder))

    return lambda config: compute(config.model_dump_json())


def stop_at(step: int) -> Watcher:
    def stop(now: int) -> None:
        if now == step:
            raise Killed

    return Watcher(at_step=stop)


def signal_at(step: int, number: int = signal.SIGTERM) -> Watcher:
    return Watcher(at_step=lambda now: os.kill(os.getpid(), number) if now == step else None)


@pytest.mark.parametrize(
    ("accumulate", "checkpoint_every"),
    [(1, 1), (2, None), (3, 2), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in OTHERS)],
)
def test_killed_anywhere(accumulate: int, checkpoint_every: int | None, whole_run: Any, tmp_path: Path) -> None:
    settings = {"accumulate": accumulate, "checkpoint_every": checkpoint_every, "validate_every": 4}
    config = experiment(trainer=settings)
    expected = whole_run(config)
    total = expected[0].step
    assert total == 3 * -(-7 // accumulate)
    for kill in (1, total // 3, total // 3 + 1, total - 1, total):
        with pytest.raises(Killed):
            run(config, tmp_path / str(kill), stop_at(kill))
        assert same(outcome(tmp_path / str(kill), run(config, tmp_path / str(kill))), expected), f"killed at {kill}"


@pytest.mark.parametrize("kill", [7, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 16))])
def test_killed_with_loader_workers(kill: int, whole_run: Any, tmp_path: Path) -> None:
    expected = whole_run(experiment(trainer={"checkpoint_every": 3}))
    config = experiment(trainer={"checkpoint_every": 3}, data={"num_workers": 2})
    with pytest.raises(Killed):
        run(config, tmp_path, stop_at(kill))
    assert same(outcome(tmp_path, run(config, tmp_path)), expected)


def test_killed_again_and_again(whole_run: Any, tmp_path: Path) -> None:
    config = experiment(trainer={"checkpoint_every": 1})
    for kill in range(1, STEPS):
        with pytest.raises(Killed):
            run(config, tmp_path, stop_at(kill))
    assert same(outcome(tmp_path, run(config, tmp_path)), whole_run(config))


@pytest.mark.parametrize(
    ("step", "number"),
    [*((step, signal.SIGTERM) for step in (1, 7, 10, 21)), (10, signal.SIGINT)]
    + [pytest.param(step, signal.SIGINT, marks=pytest.mark.slow) for step in (1, 7, 21)],
)
def test_a_signal_saves_the_step_and_stops(step: int, number: int, whole_run: Any, tmp_path: Path) -> None:
    config = experiment()
    watcher = signal_at(step, number)
    with pytest.raises(Stopped) as stopped:
        run(config, tmp_path, watcher)
    assert stopped.value.code == 128 + number
    assert watcher.steps[-1] == step, "no further step was done"
    assert f"step-{step:08d}" in {path.name for path in (tmp_path / "checkpoints").iterdir()}
    again = Watcher()
    loop = run(config, tmp_path, again)
    assert again.steps == list(range(step + 1, STEPS + 1)), "no step was done twice"
    assert same(outcome(tmp_path, loop), whole_run(config))


def test_a_signal_during_an_evaluation_leaves_it_for_the_next_start(whole_run: Any, tmp_path: Path) -> None:
    from tests.training.fakes import FakeData

    class Signalling(FakeData):
        def val_dataloader(self) -> Any:
            for number, batch in enumerate(super().val_dataloader()):
                if number == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    config = experiment()
    with pytest.raises(Stopped):
        run(config, tmp_path, data=Signalling(config))
    assert b"validation" not in (tmp_path / "metrics.csv").read_bytes()
    loop = run(config, tmp_path)
    assert same(outcome(tmp_path, loop), whole_run(config))


def test_a_second_signal_changes_nothing(whole_run: Any, tmp_path: Path) -> None:
    def twice(now: int) -> None:
        if now == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    config = experiment()
    with pytest.raises(Stopped) as stopped:
        run(config, tmp_path, Watcher(at_step=twice))
    assert stopped.value.code == 130
    assert same(outcome(tmp_path, run(config, tmp_path)), whole_run(config))


def test_a_finished_run_does_no_more_steps(tmp_path: Path) -> None:
    config = experiment()
    expected = outcome(tmp_path, run(config, tmp_path))
    watcher = Watcher()
    assert same(outcome(tmp_path, run(config, tmp_path, watcher)), expected)
    assert watcher.steps == []


def test_a_run_can_be_given_a_later_end(tmp_path: Path) -> None:
    run(experiment(trainer={"max_epochs": 2}), tmp_path)
    watcher = Watcher()
    loop = run(experiment(trainer={"max_epochs": 3}), tmp_path, watcher)
    assert watcher.steps == list(range(15, 22))
    assert loop.state.epoch == 3


def test_max_steps_may_end_a_run_within_an_epoch(tmp_path: Path) -> None:
    config = experiment(trainer={"max_steps": 10})
    loop = run(config, tmp_path)
    assert (loop.state.step, loop.state.epoch, loop.state.batches_done) == (10, 1, 3)
    assert b"\n2,10,validation," in (tmp_path / "metrics.csv").read_bytes()
    watcher = Watcher()
    run(config, tmp_path, watcher)
    assert watcher.steps == []


def damage(path: Path, how: str) -> None:
    tensors = path / TENSORS
    content = bytearray(tensors.read_bytes())
    if how == "bit flip":
        content[-3] ^= 1
        tensors.write_bytes(content)
    elif how == "truncated":
        tensors.write_bytes(content[: len(content) // 2])
    elif how == "missing file":
        tensors.unlink()
    elif how == "no manifest":
        (path / "manifest.json").unlink()
    elif how == "manifest of nonsense":
        (path / "manifest.json").write_text('{"files": 3, "format": 1}')


@pytest.mark.parametrize("how", ["bit flip", "truncated", "missing file", "no manifest", "manifest of nonsense"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(how: str, whole_run: Any, tmp_path: Path) -> None:
    config = experiment(trainer={"checkpoint_every": 2})
    with pytest.raises(Killed):
        run(config, tmp_path, stop_at(13))
    damage(tmp_path / "checkpoints" / "step-00000012", how)
    watcher = Watcher()
    loop = run(config, tmp_path, watcher)
    assert watcher.lines[0].startswith("checkpoint step-00000012 is damaged (")
    assert watcher.lines[0].endswith("falling back to the one before")
    assert watcher.lines[1] == "continuing from step-00000010"
    assert same(outcome(tmp_path, loop), whole_run(config))


def test_all_checkpoints_damaged_means_starting_anew(whole_run: Any, tmp_path: Path) -> None:
    config = experiment(trainer={"checkpoint_every": 2})
    with pytest.raises(Killed):
        run(config, tmp_path, stop_at(13))
    for path in (tmp_path / "checkpoints").glob("step-*"):
        damage(path, "bit flip")
    watcher = Watcher()
    assert same(outcome(tmp_path, run(config, tmp_path, watcher)), whole_run(config))
    assert watcher.steps[0] == 1


def test_only_the_newest_checkpoints_and_their_best_weights_stay(tmp_path: Path) -> None:
    loop = run(experiment(trainer={"checkpoint_every": 2, "keep_checkpoints": 3}), tmp_path)
    found = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {name for name in found if name.startswith("step-")} == {"step-00000018", "step-00000020", "step-00000021"}
    assert {name for name in found if name.startswith("best-")} <= {"best-00000014", "best-00000021"}
    assert f"best-{loop.state.best_step:08d}" in found
    assert all(name.startswith(("step-", "best-")) for name in found)


def test_no_checkpoint_holds_what_is_not_finite(tmp_path: Path) -> None:
    config = experiment(trainer={"checkpoint_every": 1})
    modules: list[Any] = []

    def spoil(now: int) -> None:
        if now == 4:
            with torch.no_grad():
                modules[0].network.fusion.project.weight[0, 0] = torch.inf

    watcher = Watcher(at_step=spoil)

    class Spying(fit_module.RunLoop):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            modules.append(self.module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "RunLoop", Spying)
        with pytest.raises(RunFailed, match="step 4: the weights are not finite; no checkpoint was written"):
            run(config, tmp_path, watcher)
    assert not (tmp_path / "checkpoints" / "step-00000004").exists()
    assert (tmp_path / "checkpoints" / "step-00000003").exists()
