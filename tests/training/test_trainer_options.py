"""The options of Lightning's trainer that experiments may set."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.data.batching import batches_within
from eir_seq.errors import RunFailed, UserError
from eir_seq.training.assemble import assemble
from eir_seq.training.console import Console
from eir_seq.training.fit import flags_restored
from eir_seq.training.run import train
from tests.training.harness import Watcher, experiment, outcome, run, same
from tests.training.table import table_experiment


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    with flags_restored():
        yield


@pytest.mark.parametrize(
    ("limit", "batches", "used"),
    [(None, 7, 7), (3, 7, 3), (9, 7, 7), (1, 7, 1), (1.0, 7, 7), (0.5, 7, 3), (0.01, 7, 1)],
)
def test_a_limit_is_a_number_or_a_share(limit: Any, batches: int, used: int) -> None:
    assert batches_within(limit, batches) == used


class Killed(Exception):
    pass


def results(folder: Path) -> dict[str, bytes]:
    names = ("metrics.csv", "predictions/validation.csv", "predictions/test.csv", "bundle/model.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    "limits",
    [{"limit_train_batches": 3, "limit_val_batches": 1, "limit_test_batches": 0.5}, {"overfit_batches": 3}],
    ids=["limit", "overfit"],
)
def test_limited_runs_resume_exactly(limits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(folder: str, **more: Any) -> Any:
        trainer = {"checkpoint_every": 1, **limits, **more}
        return table_experiment(tmp_path, trainer=trainer, run={"dir": str(tmp_path / folder)})

    result = train(config("whole"))
    assert result["steps"] == 2 * 3
    step = Console.step

    def killed(self: Console, now: int, *rest: Any) -> None:
        step(self, now, *rest)
        if now == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Console, "step", killed)
        with pytest.raises(Killed):
            train(config("resumed"))
    for key in limits:
        with pytest.raises(UserError, match=rf"trainer\.{key}: was .* and is 2;"):
            train(config("resumed", **{key: 2}))
    train(config("resumed"))
    assert results(tmp_path / "resumed") == results(tmp_path / "whole")
    if "limit_test_batches" in limits:
        truth = {row["id"]: row["mood"] for row in csv.DictReader((tmp_path / "test.csv").open())}
        for split in ("validation", "test"):  # one batch of 8 of the 12 rows
            rows = list(csv.DictReader((tmp_path / "whole" / "predictions" / f"{split}.csv").open()))
            assert len(rows) == 8
        assert all(truth[row["id"]] == row["mood_true"] for row in rows)
        log = (tmp_path / "whole" / "log.txt").read_text()
        assert "warning: only 1 of 2 batches of validation are used" in log


def test_overfitting_trains_on_the_same_batches(tmp_path: Path) -> None:
    with Console() as console:
        data = assemble(table_experiment(tmp_path, trainer={"overfit_batches": 2}), console).data
    epochs = []
    for epoch in range(3):
        data.set_position(epoch, 0)
        epochs.append([batch["id"] for batch in data.train_dataloader()])
    assert len(epochs[0]) == data.batches_per_epoch == 2
    assert epochs[0] == epochs[1] == epochs[2]


def test_evaluations_are_not_limited_to_the_longest_rows(tmp_path: Path) -> None:
    config = table_experiment(tmp_path, data={"eval_batch_size": 2}, trainer={"limit_val_batches": 2})
    with Console() as console:
        data = assemble(config, console).data
    lengths = [batch["inputs"]["text"]["attention_mask"].sum(dim=1).max() for batch in data.val_dataloader()]
    longest = data.encoded["validation"].lengths.max()
    assert len(lengths) == 2
    assert lengths[0] == longest > lengths[1]


@pytest.mark.parametrize("kind", ["simple", "advanced"])
def test_profiles_are_written_and_change_nothing(kind: str, tmp_path: Path) -> None:
    plain = outcome(tmp_path / "plain", run(experiment(), tmp_path / "plain"))
    folder = tmp_path / "profiled"
    config = experiment(trainer={"profiler": kind, "detect_anomaly": True, "benchmark": True})
    assert same(outcome(folder, run(config, folder)), plain)
    (profile,) = (folder / "profile").iterdir()
    assert "run_training_batch" in profile.read_text()


def test_detect_anomaly_names_the_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Undefined(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * torch.nan

    undefined: Any = Undefined
    monkeypatch.setattr(
        "tests.training.fakes.Encoder.forward", lambda self, values: undefined.apply(self.linear(values))
    )
    with pytest.raises(RunFailed, match=r"^step 1: Function 'UndefinedBackward' returned nan values"):
        run(experiment(trainer={"detect_anomaly": True}), tmp_path)


@pytest.mark.parametrize("value", [True, "warn"])
def test_deterministic_refuses_other_operations(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, values: torch.Tensor) -> torch.Tensor:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
        linear: torch.Tensor = self.linear(values)
        return linear

    monkeypatch.setattr("tests.training.fakes.Encoder.forward", forward)
    config = experiment(trainer={"deterministic": value})
    if value == "warn":
        with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
            run(config, tmp_path, Watcher())
    else:
        with pytest.raises(RunFailed, match=r"^step 1: put_ does not have a deterministic implementation"):
            run(config, tmp_path)


def test_flags_of_the_process_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = Console.step

    def noted(self: Console, *arguments: Any) -> None:
        step(self, *arguments)
        seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))

    monkeypatch.setattr(Console, "step", noted)
    for flag in ("deterministic", "benchmark"):
        limits = {flag: True, "max_steps": 1, "limit_val_batches": 1, "limit_test_batches": 1}
        train(table_experiment(tmp_path, trainer=limits, run={"dir": str(tmp_path / flag)}))
    assert seen == [(True, False), (False, True)]
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
