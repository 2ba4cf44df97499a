"""Callbacks of experiments: Lightning's hooks, values, state in checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import lightning
import pytest
import torch
import yaml

from eir_seq.config.callbacks import CallbackBase
from eir_seq.errors import RunFailed, UserError
from eir_seq.training.callbacks import build_callbacks
from eir_seq.training.fit import fit
from eir_seq.training.folder import changed_keys, plain
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.monitor import monitor_of
from eir_seq.training.run import train
from eir_seq.training.signals import SignalGuard
from tests.training.fakes import FakeData, fitted_outputs, network
from tests.training.harness import Watcher, experiment, outcome, same
from tests.training.table import table_experiment

HERE = __name__


class Counter(lightning.Callback):
    """Counts what it sees, and keeps it in checkpoints."""

    def __init__(self, stop_at: int | None = None, stop_in: str = "on_train_batch_end") -> None:
        self.seen: dict[str, int] = {}
        self.losses: list[float] = []
        self.mean = torch.zeros(2)
        self.stop_at, self.stop_in = stop_at, stop_in

    def _count(self, trainer: Any, hook: str) -> None:
        self.seen[hook] = self.seen.get(hook, 0) + 1
        self.mean += 1
        if hook == self.stop_in and self.seen[hook] == self.stop_at:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._count(trainer, "on_train_batch_end")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        self._count(trainer, "on_train_epoch_end")

    def on_validation_epoch_end(self, trainer: Any, *_: Any) -> None:
        self._count(trainer, "on_validation_epoch_end")
        self.losses.append(float(trainer.callback_metrics["validation/loss"]))
        assert "validation/y/accuracy" in trainer.callback_metrics

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        self._count(trainer, "on_validation_end")

    def state_dict(self) -> dict[str, Any]:
        return {"seen": dict(self.seen), "losses": list(self.losses), "mean": self.mean.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen, self.losses, self.mean = state_dict["seen"], state_dict["losses"], state_dict["mean"]


class Keeper(lightning.Callback):
    """Has a state that no checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": [{1, 2}]}


class CounterConfig(CallbackBase):
    IMPLEMENTATION: ClassVar[str] = f"{HERE}:Counter"
    type: Literal["counter"] = "counter"
    stop_at: int | None = None


def run(config: Any, folder: Path, callback: lightning.Callback, watcher: Watcher | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    data, watcher = FakeData(config), watcher or Watcher()
    outputs = fitted_outputs(config, data)
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
            callbacks=[callback],
        )


class Killed(Exception):
    pass


@pytest.mark.parametrize("settings", [{"checkpoint_every": 1}, {"accumulate": 2, "validate_every": 3}], ids=str)
def test_state_of_callbacks_resumes_exactly(settings: dict[str, Any], tmp_path: Path) -> None:
    config = experiment(trainer=settings)
    whole = Counter()
    expected = outcome(tmp_path / "whole", run(config, tmp_path / "whole", whole))
    assert whole.seen["on_train_batch_end"] == 3 * 7
    assert whole.seen["on_train_epoch_end"] == 3
    assert whole.seen["on_validation_epoch_end"] == whole.seen["on_validation_end"] == len(whole.losses)
    for kill in (3, 7, 8):

        def killed(step: int, at: int = kill) -> None:
            if step == at:
                raise Killed

        folder, again = tmp_path / str(kill), Counter()
        with pytest.raises(Killed):
            run(config, folder, Counter(), Watcher(at_step=killed))
        assert same(outcome(folder, run(config, folder, again)), expected)
        assert (again.seen, again.losses, again.mean.tolist()) == (whole.seen, whole.losses, whole.mean.tolist())


@pytest.mark.parametrize(
    ("hook", "at", "ends"),
    [("on_train_batch_end", 5, 3), ("on_train_epoch_end", 1, 4), ("on_validation_end", 2, 8)],
)
def test_a_callback_may_end_a_run_between_two_steps(hook: str, at: int, ends: int, tmp_path: Path) -> None:
    # 7 batches are 4 steps; the fifth batch is the first of two of the third step.
    config = experiment(trainer={"accumulate": 2})
    loop = run(config, tmp_path, Counter(at, hook))
    assert loop.state.stopped_early
    assert loop.state.step == ends
    assert (tmp_path / "checkpoints" / f"step-{ends:08d}").is_dir()
    steps = [m.step for m in read_metrics(tmp_path / "metrics.csv") if m.split == "validation"]
    assert steps[-1] == ends, "the last step was evaluated"
    watcher = Watcher()
    run(config, tmp_path, Counter(), watcher)
    assert watcher.steps == [], "it stays ended"


def test_state_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"a callback's state holds what a checkpoint cannot: Keeper\.seen\.0: a set"):
        run(experiment(), tmp_path, Keeper())
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def with_callbacks(folder: Path, **callbacks: Any) -> Any:
    return table_experiment(folder, callbacks={name: {"type": name, **keys} for name, keys in callbacks.items()})


def test_shipped_callbacks_observe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(table_experiment(tmp_path, run={"dir": str(tmp_path / "plain")}))
    observed = with_callbacks(tmp_path, rich_progress={}, learning_rate_monitor={"log_weight_decay": True})
    train(observed)
    for name in ("bundle/model.safetensors", "predictions/test.csv", "bundle/config.yaml"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("plain", "run"))
        assert one.replace(b"/plain", b"/run") == other, name
    before = read_metrics(tmp_path / "plain" / "metrics.csv")
    after = read_metrics(tmp_path / "run" / "metrics.csv")
    logged = [m for m in after if m.metric.startswith("lr-AdamW")]
    assert [m for m in after if m not in logged] == before
    assert {m.metric for m in logged} >= {"lr-AdamW/pg1", "lr-AdamW/pg1-weight_decay"}
    rates = {m.step: m.value for m in before if m.metric == "learning_rate"}
    noted = {m.step + 1: m.value for m in logged if m.metric == "lr-AdamW/pg1"}
    assert noted == pytest.approx(rates)
    capsys.readouterr()
    assert changed_keys(tmp_path / "run", table_experiment(tmp_path)) != [], "observers may come and go"


def test_a_continued_run_keeps_callbacks_that_may_steer(tmp_path: Path) -> None:
    config, folder = table_experiment(tmp_path), tmp_path / "run"
    folder.mkdir()
    steered = config.model_copy(update={"callbacks": {"mine": CounterConfig()}})
    (folder / "config.yaml").write_text(yaml.safe_dump(plain(steered)))
    assert changed_keys(folder, steered) == []
    with pytest.raises(UserError, match=r"callbacks\.mine\.type: was 'counter' and is None"):
        changed_keys(folder, config)


def test_faults_are_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_callbacks(tmp_path, rich_progress={}, device_stats={})
    twice = config.model_copy(update={"callbacks": {**config.callbacks, "again": config.callbacks["rich_progress"]}})
    monkeypatch.setattr("eir_seq.training.callbacks.is_installed", lambda package: package != "psutil")
    with pytest.raises(UserError) as raised:
        train(twice)
    assert sorted(map(str, raised.value.faults)) == [
        "callbacks.again: is a progress bar, and so is callbacks.rich_progress",
        "callbacks.device_stats: psutil is not installed; run: pip install 'eir_seq[psutil]'",
    ]
    assert not (tmp_path / "run").exists()


def test_options_that_a_callback_refuses_are_told() -> None:
    class Wrong(CallbackBase):
        IMPLEMENTATION: ClassVar[str] = f"{HERE}:Counter"
        type: Literal["wrong"] = "wrong"
        unknown: int = 3

    config = experiment().model_copy(update={"callbacks": {"mine": Wrong()}})
    with pytest.raises(UserError, match=r"callbacks\.mine: .*:Counter: .*unexpected keyword argument 'unknown'"):
        build_callbacks(config)


def test_device_statistics_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(percent=20.0)
    psutil: Any = SimpleNamespace(
        cpu_percent=lambda: 10.0, virtual_memory=lambda: memory, swap_memory=lambda: SimpleNamespace(percent=30.0)
    )
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    monkeypatch.setattr("eir_seq.training.callbacks.is_installed", lambda _: True)
    monkeypatch.setattr("lightning.pytorch.accelerators.cpu._PSUTIL_AVAILABLE", True)
    train(with_callbacks(tmp_path, device_stats={}))
    noted = {m.metric: m.value for m in read_metrics(tmp_path / "run" / "metrics.csv")}
    assert noted["DeviceStatsMonitor.on_train_batch_end/cpu_vm_percent"] == 20.0
