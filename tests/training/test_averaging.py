"""Averages of the weights: what they are, that they are evaluated, kept and resumed, and their batch norms."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from eir_seq.config.training import EmaConfig, SwaConfig
from eir_seq.training import loop as loop_module
from eir_seq.training.averaging import Averaging, averaged_rate
from eir_seq.training.evaluation import evaluate
from eir_seq.training.loop import RunLoop
from eir_seq.training.run import train
from tests.training.fakes import FEATURES, Encoder, FakeData, fitted_outputs, network
from tests.training.harness import experiment, outcome, run, same
from tests.training.table import table_experiment
from tests.training.test_resume import Killed, stop_at


@pytest.fixture(autouse=True)
def _few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POINTS", 5)


class Recording:
    """Notes the weights after each step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights: list[dict[str, Tensor]] = []
        after_step = Averaging.after_step

        def noted(averaging: Averaging, network: Any, step: int, *, epoch_ends: bool) -> None:
            self.weights.append(copy.deepcopy(network.state_dict()))
            after_step(averaging, network, step, epoch_ends=epoch_ends)

        monkeypatch.setattr(Averaging, "after_step", noted)


def averaged(loop: RunLoop) -> dict[str, Tensor]:
    assert loop.averaging is not None
    return loop.averaging.network.state_dict()


def test_swa_is_the_mean_of_the_weights_at_the_ends_of_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(monkeypatch)
    loop = run(experiment(trainer={"max_epochs": 4, "averaging": {"type": "swa", "start": 0.5}}), tmp_path)
    taken = [recording.weights[step - 1] for step in (14, 21, 28)]  # epochs of seven steps
    for name, value in averaged(loop).items():
        torch.testing.assert_close(value, torch.stack([weights[name] for weights in taken]).mean(dim=0))
        assert not torch.equal(value, loop.module.network.state_dict()[name])


def test_ema_forgets_the_first_steps_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(monkeypatch)
    loop = run(experiment(trainer={"max_steps": 12, "averaging": {"type": "ema", "decay": 0.4, "every": 2}}), tmp_path)
    taken = recording.weights[1::2]
    for name, value in averaged(loop).items():
        expected = taken[0][name]
        for updates, weights in enumerate(taken[1:], 1):
            decay = min(0.4, (1 + updates) / (10 + updates))
            expected = decay * expected + (1 - decay) * weights[name]
        torch.testing.assert_close(value, expected)


AVERAGINGS: list[dict[str, Any]] = [
    {"type": "ema", "decay": 0.9},
    {"type": "swa", "start": 5, "every": 2, "lr": 0.002, "anneal": 4},
]


@pytest.mark.parametrize("averaging", AVERAGINGS)
def test_killed_anywhere(averaging: dict[str, Any], tmp_path: Path) -> None:
    config = experiment(trainer={"averaging": averaging, "validate_every": 4, "checkpoint_every": 3})
    whole = run(config, tmp_path)
    expected = outcome(tmp_path, whole)
    for kill in (6, 20):
        folder = tmp_path / str(kill)
        with pytest.raises(Killed):
            run(config, folder, stop_at(kill))
        loop = run(config, folder)
        assert same(outcome(folder, loop), expected), f"killed at {kill}"
        assert all(torch.equal(value, averaged(whole)[name]) for name, value in averaged(loop).items())


def test_the_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    config = experiment(trainer={"averaging": {"type": "ema", "decay": 0.9}, "monitor": {"output": "y"}})
    loop = run(config, tmp_path)
    data = FakeData(config)
    found = evaluate(
        loop.evaluated_network(), fitted_outputs(config, data), data.val_dataloader(), device=torch.device("cpu")
    )
    written = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    last = [row[5] for row in written if row[1:5] == ["21", "validation", "y", "loss"]]
    assert [float(value) for value in last] == [found.values["y", "loss"]]
    assert loop.state.best_step == 21
    best = loop.store.read_best(21)
    assert all(torch.equal(value, averaged(loop)[name]) for name, value in best.items())


def test_without_evaluations_the_average_counts_as_the_best(tmp_path: Path) -> None:
    loop = run(experiment(trainer={"averaging": {"type": "swa", "start": 0}}), tmp_path, validate=False)
    weights = loop.module.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in averaged(loop).items())


def test_before_its_start_the_weights_themselves_are_evaluated(tmp_path: Path) -> None:
    found = {}
    for name, averaging in {"swa": {"type": "swa", "start": 0.5}, "none": None}.items():
        run(experiment(trainer={"averaging": averaging}), tmp_path / name)
        lines = (tmp_path / name / "metrics.csv").read_text().splitlines()
        found[name] = {step: [line for line in lines if f",{step},validation" in line] for step in (7, 14, 21)}
    assert found["swa"][7] == found["none"][7]
    assert found["swa"][14] == found["none"][14], "the first weights are their own mean"
    assert found["swa"][21] != found["none"][21]


class Normed(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(self.norm(values) ** 3)


@pytest.fixture
def _normed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.training.fakes.Encoder", Normed)


@pytest.mark.usefixtures("_normed")
def test_batch_norms_get_the_statistics_of_the_average(tmp_path: Path) -> None:
    config = experiment(
        fusion={"type": "mlp-residual", "hidden_size": 8, "dropout": 0.0, "stochastic_depth": 0.0},
        trainer={"averaging": {"type": "swa", "start": 0}, "max_epochs": 2},
    )
    data = FakeData(config)
    loop = run(config, tmp_path, data=data)
    averaging = loop.averaging
    assert averaging is not None
    reference = network(config, fitted_outputs(config, data))
    reference.load_tensors(loop.module.network.tensors() | averaging.network.tensors())
    update_bn(({"x": batch["inputs"]["x"]} for batch in data.statistics_batches()), reference)
    renewed: Any = averaging.network.encoder("x")
    expected: Any = reference.encoder("x")
    torch.testing.assert_close(renewed.norm.running_mean, expected.norm.running_mean)
    torch.testing.assert_close(renewed.norm.running_var, expected.norm.running_var)
    assert renewed.norm.momentum == 0.1
    trained: Any = loop.module.network.encoder("x")
    assert not torch.allclose(renewed.norm.running_var, trained.norm.running_var)
    expected_outcome = outcome(tmp_path, loop)
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", stop_at(9))
    assert same(outcome(tmp_path / "killed", run(config, tmp_path / "killed")), expected_outcome)


def test_a_rate_of_its_own() -> None:
    config = experiment().optimizer
    swa = SwaConfig(start=0.5, lr=config.lr / 4, anneal=2)
    factor = averaged_rate(lambda step: 1 - step / 20, swa, config, 10)
    assert [factor(step) for step in (0, 4, 5, 7, 9)] == pytest.approx([1.0, 0.8, 0.75, 0.25, 0.25])
    assert averaged_rate(lambda _: 3.0, EmaConfig(), config, 10)(5) == 3.0


def test_the_bundle_holds_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    averages: list[Averaging] = []
    build = Averaging.__init__

    def noted(averaging: Averaging, *args: Any) -> None:
        build(averaging, *args)
        averages.append(averaging)

    monkeypatch.setattr(Averaging, "__init__", noted)
    config = table_experiment(tmp_path, trainer={"max_epochs": 1, "averaging": {"type": "ema", "decay": 0.5}})
    result = train(config)
    assert result["best_step"] == result["steps"]
    found = load_file(next((tmp_path / "run" / "bundle").rglob("model.safetensors")))
    expected = averages[0].network.tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_a_start_that_moves_behind_the_step_begins_anew(tmp_path: Path) -> None:
    config = experiment(trainer={"averaging": {"type": "swa", "start": 0.5}, "max_epochs": 2})
    assert run(config, tmp_path).averaging.active  # type: ignore[union-attr]
    longer = experiment(trainer={"averaging": {"type": "swa", "start": 0.9}, "max_epochs": 4})
    averaging = Averaging(network(longer, fitted_outputs(longer, FakeData(longer))), SwaConfig(start=0.9), 28)
    averaging._average.n_averaged.fill_(3)
    averaging.begin(14, torch.device("cpu"))
    assert not averaging.active
