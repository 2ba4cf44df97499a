"""Gradient noise, the plateau schedule, early stopping that begins late, compilation, metrics of training rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from eir_seq.config.optimization import PlateauConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.report import RunFiles, render_report
from eir_seq.training import loop as loop_module
from eir_seq.training.console import Console
from eir_seq.training.experiment import load_experiment
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.module import TrainingModule
from eir_seq.training.monitor import Monitor
from eir_seq.training.plateau import Plateau
from eir_seq.training.run import train
from eir_seq.training.running import MOST_ROWS, TrainingRows
from tests.training.harness import Watcher, experiment, outcome, run, same
from tests.training.table import table_experiment
from tests.training.test_resume import Killed as StoppedHere
from tests.training.test_resume import stop_at


class Killed(Exception):
    pass


FILES = ("metrics.csv", "predictions/test.csv", "bundle/model.safetensors")
AVERAGE = {"metric": "average"}
EVERYTHING: dict[str, dict[str, Any]] = {
    "uncertainty": {
        "trainer": {"loss_weighting": "uncertainty", "gradient_noise": 0.01, "train_metrics": True, "monitor": AVERAGE},
        "optimizer": {"type": "muon"},
    },
    "gradnorm": {
        "trainer": {"loss_weighting": "gradnorm", "accumulate": 2, "averaging": {"type": "ema"}},
        "scheduler": {"type": "plateau", "patience": 0, "min_delta": 9.0, "factor": 0.5},
        "optimizer": {"type": "adabelief"},
    },
}


@pytest.mark.parametrize("case", EVERYTHING)
def test_killed_and_started_again(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POINTS", 4)
    changes = EVERYTHING[case]

    def config(folder: str) -> Any:
        trainer = {"checkpoint_every": 1, "validate_every": 2, **changes["trainer"]}
        return table_experiment(tmp_path, **{**changes, "trainer": trainer}, run={"dir": str(tmp_path / folder)})

    result = train(config("whole"))
    last = result["steps"] - 2
    step = Console.step

    def killed(self: Console, now: int, *rest: Any) -> None:
        step(self, now, *rest)
        if now in stops:
            stops.remove(now)
            raise Killed

    stops = {3, last}
    with monkeypatch.context() as patch:
        patch.setattr(Console, "step", killed)
        for _ in range(2):
            with pytest.raises(Killed):
                train(config("resumed"))
    train(config("resumed"))
    for name in FILES:
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


# ------------------------------------------------------------------------------------------------------------ noise


def test_noise_has_the_given_deviation_and_comes_after_clipping() -> None:
    config = experiment(trainer={"gradient_noise": 0.5, "gradient_clip": 1e-9})
    module: Any = TrainingModule(nn.Linear(100, 100), {}, config, batches_per_epoch=1, total_steps=1)  # type: ignore[arg-type]

    class Trainer:
        global_step, precision, precision_plugin = 3, "32-true", None

    module._trainer = Trainer()
    draws = []
    for step in (3, 3, 4):
        module.trainer.global_step = step
        for parameter in module.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        module._group = [([], {"y": torch.ones(1, dtype=torch.bool)})]
        module.configure_gradient_clipping(torch.optim.SGD(module.network.parameters()))
        draws.append(module.network.weight.grad.clone())
    assert float(draws[0].std()) == pytest.approx(0.5, rel=0.02)  # 10,000 draws: three standard errors
    assert abs(float(draws[0].mean())) < 0.02
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# ---------------------------------------------------------------------------------------------------------- plateau


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_reduces_as_torch_does(mode: Any) -> None:
    config = PlateauConfig(factor=0.3, patience=1, min_delta=0.1, cooldown=1, min_ratio=0.05)
    values = [1.0, 0.95, 0.93, 0.92, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    values = values if mode == "min" else [-value for value in values]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = ReduceLROnPlateau(
        optimizer, mode, 0.3, patience=1, threshold=0.1, threshold_mode="abs", cooldown=1, min_lr=0.05
    )
    plateau, better, factors = Plateau(), Monitor("", "loss", mode).better, []
    for value in values:
        reference.step(value)
        plateau.evaluated(value, config, better)
        assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])
        factors.append(plateau.factor)
    assert len(set(factors)) == 4


def test_plateau_after_a_warmup_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POINTS", 100)
    config = experiment(
        scheduler={"type": "plateau", "warmup": 6, "patience": 0, "min_delta": 9.0, "factor": 0.5},
        trainer={"validate_every": 3, "checkpoint_every": 1},
    )
    watcher = Watcher()
    loop = run(config, tmp_path, watcher)
    rates = [m.value for m in read_metrics(tmp_path / "metrics.csv") if m.metric == "learning_rate"]
    lr = config.optimizer.lr
    warm = [lr * (step + 1) / 7 for step in range(6)]
    # The evaluation of step 9 is the first that counts; the four behind it bring no improvement of 9.
    assert rates == pytest.approx(warm + [lr] * 6 + [lr / 2] * 3 + [lr / 4] * 3 + [lr / 8] * 3)
    assert loop.module.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(lr / 16)
    said = [line for line in watcher.lines if "no longer improves" in line]
    assert said[0] == f"trainer.monitor: loss no longer improves: the learning rate is now {lr / 2:.3g}"
    expected = outcome(tmp_path, loop)
    for kill in (13,):
        with pytest.raises(StoppedHere):
            run(config, tmp_path / str(kill), stop_at(kill))
        assert same(outcome(tmp_path / str(kill), run(config, tmp_path / str(kill))), expected)


# --------------------------------------------------------------------------------------------------- early stopping


@pytest.mark.parametrize(
    ("early", "steps"), [({}, 4), ({"after_steps": 4}, 6), ({"after_epochs": 1}, 8), ({"after_steps": 8}, 10)]
)
def test_early_stopping_begins_late(early: dict[str, int], steps: int, tmp_path: Path) -> None:
    config = experiment(
        trainer={"validate_every": 2, "early_stopping": {"patience": 1, "min_delta": 99.0, **early}},
    )
    assert run(config, tmp_path).state.step == steps


# -------------------------------------------------------------------------------------------------------- compile


@pytest.mark.slow
def test_a_compiled_network_keeps_its_names_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    compile_ = nn.Module.compile

    def quick(module: nn.Module, **options: Any) -> None:
        compiled.append(module)
        compile_(module, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", quick)
    fusion = {"dropout": 0.0, "stochastic_depth": 0.0}  # compiled, they draw other numbers
    plain = run(experiment(trainer={"max_epochs": 1}, fusion=fusion), tmp_path / "plain")
    config = experiment(trainer={"max_epochs": 1, "compile": True, "checkpoint_every": 2}, fusion=fusion)
    with pytest.raises(StoppedHere):
        run(config, tmp_path / "compiled", stop_at(4))
    loop = run(config, tmp_path / "compiled")
    assert compiled[-1] is loop.module.network
    expected, found = plain.module.network.tensors(), loop.module.network.tensors()
    assert list(found) == list(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.slow
def test_compiled_by_inductor(tmp_path: Path) -> None:
    config = experiment(trainer={"max_steps": 3, "compile": True, "averaging": {"type": "ema"}})
    loop = run(config, tmp_path)
    assert loop.state.best_value is not None
    assert not any("_orig_mod" in name for name in loop.module.network.tensors())


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"trainer\.compile: needs a C\+\+ compiler"):
        train(table_experiment(tmp_path, trainer={"compile": True}))


# ------------------------------------------------------------------------------------- metrics of training rows


def test_metrics_of_training_rows(tmp_path: Path) -> None:
    train(table_experiment(tmp_path, trainer={"max_epochs": 1, "train_metrics": True}))
    found = [m for m in read_metrics(tmp_path / "run" / "metrics.csv") if m.split == "train"]
    assert {m.metric for m in found if m.output == "mood"} >= {"loss", "accuracy", "mcc"}
    assert {m.metric for m in found if m.output == "score"} >= {"loss", "r2", "rmse"}
    assert not any("(" in m.metric for m in found)


def test_mixed_rows_are_not_measured() -> None:
    """Their outputs are those of two targets."""
    output: Any = object.__new__(type("Mean", (), {}))
    output.name = "y"
    output.config = experiment().outputs["y"]
    output.evaluate = lambda raw, target: {"sum": float(raw.sum())}
    rows, mixing = TrainingRows({"y": output}), {"share": torch.tensor([1.0, 0.5, 1.0, 0.9])}
    raw = {"y": torch.tensor([[1.0], [2.0], [4.0], [8.0]])}
    rows.add(raw, {"targets": {"y": torch.zeros(4)}, "mixing": mixing})
    rows.add(raw, {"targets": {"y": torch.zeros(4)}, "mixing": mixing, "labelled": {"y": torch.tensor([1, 2])}})
    rows.add(raw, {"targets": {"y": torch.zeros(4)}, "mixing": {"share": torch.zeros(4)}})
    assert rows.measured() == {("y", "sum"): 1.0 + 4.0 + 4.0}


def test_metrics_of_training_rows_need_rows_that_are_not_mixed(tmp_path: Path) -> None:
    mixing = {"type": "manifold"}
    given = table_experiment(tmp_path, trainer={"train_metrics": True, "mixing": mixing}).model_dump(mode="json")
    with pytest.raises(UserError, match=r"^trainer\.train_metrics: needs rows that are not mixed; set trainer\."):
        validate_experiment(given)
    given["trainer"]["mixing"]["probability"] = 0.5
    validate_experiment(given)


def test_training_rows_are_those_that_were_trained_on_last() -> None:
    output: Any = object.__new__(type("Mean", (), {}))
    output.name = "y"
    output.config = experiment().outputs["y"]
    output.evaluate = lambda raw, target: {"loss": 0.0, "rows": float(len(raw)), "first": float(raw[0])}
    rows = TrainingRows({"y": output})
    for number in range(5):
        raw = torch.full((1000, 1), float(number))
        labelled = {"y": torch.arange(900)}
        rows.add({"y": raw}, {"targets": {"y": torch.zeros(1000)}, "labelled": labelled})
    again = TrainingRows({"y": output})
    again.restore(rows.state(), torch.device("cpu"))
    assert rows.measured() == again.measured() == {("y", "rows"): 2700.0, ("y", "first"): 2.0}
    assert 2700 - 900 < MOST_ROWS <= 2700
    assert rows.measured() == {}


# --------------------------------------------------------------------------------------------------- the average


def test_the_average_over_outputs(tmp_path: Path) -> None:
    result = train(table_experiment(tmp_path, trainer={"monitor": "average"}))
    assert (result["monitor"]["output"], result["monitor"]["metric"], result["monitor"]["mode"]) == (
        "",
        "average",
        "max",
    )
    for split in ("validation", "test"):
        mood, score = result[split]["mood"], result[split]["score"]
        of_mood = (mood["mcc"] + mood["auroc"] + mood["average_precision"]) / 3
        of_score = (1 - score["loss"] + score["r2"] + score["pearson"]) / 3
        assert result["average"][split] == pytest.approx((of_mood + of_score) / 2)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    values = [float(row["value"]) for row in rows if row["metric"] == "average" and row["split"] == "validation"]
    assert max(values) == result["monitor"]["value"]
    assert "average " in (tmp_path / "run" / "log.txt").read_text()
    report = render_report(RunFiles.read(tmp_path / "run"))
    assert report.count("Average over outputs") >= 3, "a card for each split, and the curve"


def test_the_average_of_one_output(tmp_path: Path) -> None:
    loop = run(experiment(trainer={"monitor": "average"}), tmp_path)
    assert loop.state.best_value is not None


# ------------------------------------------------------------------------------------------------------ messages

EARLY = {"patience": 1}
HEAVY = {"type": "classification", "column": "mood", "loss_weight": 2.0}
SWA = {"type": "swa"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainer": {"max_steps": 9, "averaging": {**SWA, "start": 9}}}, r"averaging\.start: 9 steps do not end"),
        ({"trainer": {"averaging": {**SWA, "anneal": 3}}}, r"averaging\.anneal: has no effect without lr"),
        ({"trainer": {"averaging": {**SWA, "lr": 1.0}}, "scheduler": {"type": "plateau"}}, r"averaging\.lr: cannot be"),
        ({"trainer": {"averaging": {"type": "eam"}}}, r"trainer\.averaging\.type: 'eam' is not one of 'ema', 'swa'"),
        ({"trainer": {"averaging": {"type": "ema", "decay": 1.0}}}, r"trainer\.averaging.*decay"),
        ({"trainer": {"early_stopping": {**EARLY, "after_epochs": 2}}}, r"after_epochs: early stopping would begin"),
        ({"trainer": {"early_stopping": {**EARLY, "after_steps": 9}, "max_steps": 9}}, r"after_steps: early stopping"),
        ({"trainer": {"loss_weighting": "gradnrom"}}, r"trainer\.loss_weighting.*'gradnrom' is not one of"),
        ({"trainer": {"loss_weighting": "gradnorm", "compile": True}}, r"trainer\.compile: cannot be combined"),
        (
            {"trainer": {"loss_weighting": "gradnorm"}, "outputs": {"mood": HEAVY}},
            r"outputs\.mood\.loss_weight: has no effect with trainer\.loss_weighting: gradnorm",
        ),
        ({"trainer": {"monitor": {"metric": "average", "mode": "min"}}}, r"monitor\.mode: 'min' would keep the lowest"),
        ({"trainer": {"monitor": "avrage"}}, r"monitor\.output: is missing; say whose avrage it is"),
        ({"trainer": {"gradient_noise": 0.0}}, r"trainer\.gradient_noise"),
        ({"scheduler": {"type": "plateau", "warmup": 9}, "trainer": {"max_steps": 9}}, r"scheduler\.warmup: 9 steps"),
        ({"scheduler": {"type": "plateau"}, "data": {"validation": None}}, r"scheduler\.type: 'plateau' needs"),
        ({"data": {"weighted_sampling": ["mood", "score"]}}, r"weighted_sampling: output 'score' has no classes"),
        ({"data": {"weighted_sampling": ["mood", "mood"]}}, r"weighted_sampling: names 'mood' twice"),
        ({"data": {"weighted_sampling": []}}, r"weighted_sampling: names no output"),
        ({"optimizer": {"type": "muon", "betas": [0.9]}}, r"optimizer\.betas"),
    ],
)  # fmt: skip
def test_messages(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    raw = table_experiment(tmp_path).model_dump()
    for section, keys in changes.items():
        kept = {} if "type" in keys else raw[section]
        raw[section] = {**kept, **keys}
    with pytest.raises(UserError, match=said):
        validate_experiment(raw)


def test_one_output_has_nothing_to_weigh(tmp_path: Path) -> None:
    raw = table_experiment(tmp_path, trainer={"loss_weighting": "uncertainty"}).model_dump()
    del raw["outputs"]["score"]
    with pytest.raises(UserError, match=r"trainer\.loss_weighting: 'uncertainty' has no effect with one output"):
        validate_experiment(raw)


def test_what_a_trainer_of_ones_own_does_not_have(tmp_path: Path) -> None:
    config = table_experiment(
        tmp_path, trainer={"averaging": {"type": "ema"}, "compile": True}, scheduler={"type": "plateau"}
    )
    with pytest.raises(UserError) as refused:
        load_experiment(config)
    assert {fault.place for fault in refused.value.faults} == {"trainer.averaging", "scheduler.type", "trainer.compile"}
