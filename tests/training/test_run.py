from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import RunFailed, UserError
from eir_seq.inference.report import write_report
from eir_seq.training import follow
from eir_seq.training import run as run_module
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate
from eir_seq.training.loop import RunLoop
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.monitor import monitor_of
from eir_seq.training.run import train
from eir_seq.training.signals import Stopped
from tests.training.fakes import experiment
from tests.training.table import table_experiment, write_table

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(table_experiment(folder))


class TestWhatARunLeaves:
    def test_all_its_files(self, finished: tuple[Path, dict[str, Any]]) -> None:
        run = finished[0] / "run"
        names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
        assert {
            "config.yaml",
            "manifest.json",
            "metrics.csv",
            "result.json",
            "log.txt",
            "predictions/validation.csv",
            "predictions/test.csv",
            "report/data.json",
            "bundle/config.yaml",
            "bundle/model.safetensors",
            "bundle/outputs/mood.json",
            "bundle/outputs/score.json",
            "bundle/inputs/text/input.json",
        } <= names
        assert not [name for name in names if "partial" in name]

    def test_the_result(self, finished: tuple[Path, dict[str, Any]]) -> None:
        folder, result = finished
        assert json.loads((folder / "run" / "result.json").read_text()) == result
        assert result["status"] == "finished"
        assert result["steps"] == 12  # 48 training rows, batches of 8, two epochs
        assert result["validation"].keys() == result["test"].keys() == {"mood", "score"}
        best = {
            (m.output, m.metric): m.value
            for m in read_metrics(folder / "run" / "metrics.csv")
            if m.split == "validation" and m.step == result["best_step"]
        }
        assert best["", "loss"] == result["loss"]["validation"] == result["monitor"]["value"]
        for output, metrics in result["validation"].items():
            for metric, value in metrics.items():
                assert best[output, metric] == value, "the best weights give what was measured when they were the best"

    def test_the_config_makes_the_same_run(self, finished: tuple[Path, dict[str, Any]]) -> None:
        folder = finished[0]
        config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
        assert ExperimentConfig.model_validate(config) == table_experiment(folder)

    def test_predictions_are_those_of_the_bundle(self, finished: tuple[Path, dict[str, Any]]) -> None:
        folder = finished[0]
        bundle = read_bundle(folder / "run" / "bundle")
        assert not bundle.network.training
        with (folder / "run" / "predictions" / "test.csv").open() as file:
            rows = list(csv.DictReader(file))
        with (folder / "test.csv").open() as file:
            given = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == [row["id"] for row in given]
        assert [row["mood_true"] for row in rows] == [row["mood"] for row in given]
        parts = run_module.assemble(table_experiment(folder), Console(io.StringIO()))
        found = evaluate(bundle.network, bundle.outputs, parts.batches("test"), device=torch.device("cpu"))
        decoded = bundle.outputs["mood"].decode(found.raw["mood"])
        assert [float(row["mood_p(good)"]) for row in rows] == pytest.approx(decoded["mood_p(good)"], rel=1e-8)

    def test_the_manifest(self, finished: tuple[Path, dict[str, Any]]) -> None:
        manifest = json.loads((finished[0] / "run" / "manifest.json").read_text())
        assert manifest["status"] == "finished"
        assert manifest["data"]["rows"] == {"train": 48, "validation": 12, "test": 12}
        assert {"python", "torch", "lightning", "eir_seq"} <= manifest["versions"].keys()
        (session,) = manifest["sessions"]
        assert session["exit_reason"] == "finished"
        assert session["started"] <= session["ended"]
        assert session["process"] == os.getpid()

    def test_the_log_is_what_was_said(self, finished: tuple[Path, dict[str, Any]]) -> None:
        log = (finished[0] / "run" / "log.txt").read_text()
        assert "reading rows: train 48, validation 12, test 12" in log
        assert "epoch 2, step 12, validation: loss " in log
        assert "step 6, test: loss " in log or "step 12, test: loss " in log


def test_the_same_run_is_the_same_bytes(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = finished
    train(table_experiment(folder, run={"dir": str(tmp_path / "again")}, data={**loaders(folder)}))
    for name in ("metrics.csv", "predictions/test.csv", "predictions/validation.csv", "bundle/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / "run" / name).read_bytes(), name


def loaders(folder: Path) -> dict[str, Any]:
    return {**table_experiment(folder).data.model_dump(), "num_workers": 2}


def test_a_finished_run_is_not_trained_again(
    finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, result = finished
    reported = []
    assert train(table_experiment(folder), finish=reported.append) == result
    assert "this run is finished; nothing was trained" in capsys.readouterr().out
    assert reported == [folder / "run"], "the report that was missing is made"


def test_a_finished_run_can_be_given_a_later_end(tmp_path: Path) -> None:
    train(table_experiment(tmp_path, trainer={"keep_optimizer_state": True}))
    result = train(table_experiment(tmp_path, trainer={"keep_optimizer_state": True, "max_epochs": 3}))
    assert (result["steps"], result["epochs"]) == (18, 3)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [session["exit_reason"] for session in manifest["sessions"]] == ["finished", "finished"]


def test_another_config_in_the_same_folder_is_refused_key_by_key(finished: tuple[Path, dict[str, Any]]) -> None:
    folder = finished[0]
    before = (folder / "run" / "config.yaml").read_bytes()
    with pytest.raises(UserError) as refused:
        train(table_experiment(folder, optimizer={"lr": 0.5}, seed=3))
    assert {fault.place for fault in refused.value.faults} == {"optimizer.lr", "seed"}
    assert "was 0.01 and is 0.5; " in str(refused.value)
    assert (folder / "run" / "config.yaml").read_bytes() == before


def test_changed_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "fit", stopping)
    with pytest.raises(Stopped):
        train(table_experiment(tmp_path))
    write_table(tmp_path / "train.csv", 60, seed=9)
    with pytest.raises(UserError, match=r"the rows are not those that the run in .* began with"):
        train(table_experiment(tmp_path))
    assert (tmp_path / "run" / "manifest.json").exists()


def stopping(*args: Any, **kwargs: Any) -> Any:
    raise Stopped(signal.SIGTERM)


class TestNothingIsLeftBehind:
    def test_by_bad_data(self, tmp_path: Path) -> None:
        config = table_experiment(tmp_path, run={"dir": None, "root": str(tmp_path / "runs")})
        (tmp_path / "train.csv").write_text("id,text,mood,score\n")
        with pytest.raises(UserError, match=r"train\.csv"):
            train(config)
        assert not (tmp_path / "runs").exists()

    def test_by_a_model_that_does_not_fit(self, tmp_path: Path) -> None:
        config = table_experiment(tmp_path, fusion={"type": "attention", "hidden_size": 9, "num_layers": 1})
        with pytest.raises(UserError, match=r"fusion\.num_heads"):
            train(config)
        assert not (tmp_path / "run").exists()

    def test_by_a_folder_that_was_there(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        config = table_experiment(tmp_path, fusion={"type": "attention", "hidden_size": 9, "num_layers": 1})
        with pytest.raises(UserError, match=r"fusion\.num_heads"):
            train(config)
        assert {path.name for path in (tmp_path / "run").iterdir()} <= {".owner", "log.txt"}
        train(table_experiment(tmp_path, trainer={"max_epochs": 1}))  # the folder still counts as empty


def test_a_signal_while_reading_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signalled(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came too late")

    monkeypatch.setattr(run_module, "assemble", signalled)
    with pytest.raises(Stopped) as stopped:
        train(table_experiment(tmp_path))
    assert stopped.value.code == 143
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_training_is_noted_and_the_run_goes_on_later(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = run_module.Console.step

    def step(self: Any, step: int, *rest: Any) -> None:
        original(self, step, *rest)
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    folder = finished[0]
    config = table_experiment(folder, run={"dir": str(tmp_path / "run")})
    monkeypatch.setattr(run_module.Console, "step", step)
    with pytest.raises(Stopped) as stopped:
        train(config)
    assert stopped.value.code == 130
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "stopped by signal 2"
    assert "SIGINT: saving after this step, then stopping" in (tmp_path / "run" / "log.txt").read_text()
    monkeypatch.undo()
    train(config)
    for name in ("metrics.csv", "predictions/test.csv", "bundle/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "run" / name).read_bytes(), name
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [session["exit_reason"] for session in manifest["sessions"]] == ["stopped by signal 2", "finished"]


def test_without_validation_rows_the_last_weights_are_the_best(tmp_path: Path) -> None:
    config = table_experiment(tmp_path)
    data = {**config.data.model_dump(), "validation": None}
    result = train(table_experiment(tmp_path, data=data))
    assert result["best_step"] is None
    assert "validation" not in result
    assert result["test"].keys() == {"mood", "score"}
    with pytest.raises(UserError, match=r"trainer\.early_stopping: needs validation rows"):
        train(
            table_experiment(
                tmp_path,
                data=data,
                trainer={"early_stopping": {"patience": 1}},
                run={"dir": str(tmp_path / "other")},
            )
        )


def test_early_stopping(tmp_path: Path) -> None:
    trainer = {"max_epochs": 50, "early_stopping": {"patience": 2, "min_delta": 1000.0}}
    result = train(table_experiment(tmp_path, trainer=trainer))
    # the first evaluation is the best so far whatever its value; two more bring nothing
    assert result["stopped_early"]
    assert result["epochs"] == 3


def test_secrets_are_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = "c4n4ry"
    places = [
        f"https://me:{canary}@host/x",
        f"api_key={canary}",
        f"my_password: {canary}",
        f'{{"hub_token": "{canary}"}}',
        f"Authorization: Bearer {canary}",
        f"client_secret='{canary} {canary}'",
    ]
    monkeypatch.setenv("WANDB_API_KEY", canary)
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [f"data.note={places[0]}", f"+hub.token={canary}", f"x.password=a {canary}", "--api-key", canary, *places]
    monkeypatch.setattr("sys.argv", ["eir_seq", *words])
    changes = {"trainer": {"max_epochs": 1}, "note": " ".join(places), "tracker": {"type": "tensorboard"}}
    original = RunLoop.on_train_start

    def warn(self: RunLoop, *args: Any) -> None:
        for place in places:
            self.progress.say(f"warning: {place}")
        original(self, *args)

    monkeypatch.setattr(RunLoop, "on_train_start", warn)
    train(table_experiment(tmp_path, **changes), finish=write_report)
    shown = capsys.readouterr()
    assert "warning: api_key=***" in shown.out
    assert canary not in shown.out + shown.err
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"report", "tensorboard", "bundle"} <= {path.relative_to(tmp_path / "run").parts[0] for path in files}
    for path in files:
        assert canary.encode() not in path.read_bytes(), path


def test_files_have_the_modes_of_umask(finished: tuple[Path, dict[str, Any]]) -> None:
    folder = finished[0]
    (folder / "mode").touch()
    expected = stat.S_IMODE((folder / "mode").stat().st_mode)
    files = [path for path in (*folder.glob("run/**/*"), *folder.glob("cache/**/*")) if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".arrow", ".csv", ".json"}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files if path.name != ".owner"} == {
        path.name: expected for path in files if path.name != ".owner"
    }


def test_out_of_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eir_seq.training.network import Network

    original = Network.forward

    def forward(self: Network, *arguments: Any, **further: Any) -> Any:
        if self.training:
            torch.empty(1 << 60)
        return original(self, *arguments, **further)

    monkeypatch.setattr(Network, "forward", forward)
    with pytest.raises(RunFailed) as failed:
        train(table_experiment(tmp_path))
    message = str(failed.value)
    assert message.startswith("out of memory in step 1 (batch of 8 rows; text.input_ids 8 x ")
    assert "data.batch_size" in message
    assert "\n" not in message
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == message


def test_a_disk_that_fills_while_measuring_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eir_seq.training.metrics_file import MetricsFile

    def fail(self: MetricsFile, rows: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path))

    monkeypatch.setattr(MetricsFile, "append", fail)
    with pytest.raises(RunFailed, match=r"metrics\.csv could not be written: No space left on device"):
        train(table_experiment(tmp_path))


def test_a_disk_too_small_for_checkpoints_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eir_seq.training.fit.free_bytes", lambda path: 1000)
    with pytest.raises(RunFailed, match=r"checkpoints need about [\d,]+ bytes, 1,000 are free"):
        train(table_experiment(tmp_path))
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_memory_that_ends_in_the_last_evaluation_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "evaluate", lambda *args, **kwargs: torch.empty(1 << 60))
    with pytest.raises(RunFailed, match="out of memory in evaluation"):
        train(table_experiment(tmp_path, trainer={"max_epochs": 1}))


def test_the_best_evaluation_is_not_repeated_if_it_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, calls = follow.evaluate, []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return evaluate(*arguments, **options)

    def run(name: str) -> int:
        calls.clear()
        outputs = {"mood": {"type": "classification", "column": "mood", "thresholds": "f1"}}
        train(table_experiment(tmp_path, outputs=outputs, trainer={"max_epochs": 1}, run={"dir": str(tmp_path / name)}))
        return len(calls)

    monkeypatch.setattr(follow, "evaluate", counted)
    assert run("once") == 1  # of the test rows
    monkeypatch.setattr(RunLoop, "best_evaluation", property(lambda _: None, lambda *_: None), raising=False)
    assert run("twice") == 2
    once, twice = tmp_path / "once", tmp_path / "twice"
    same = [path.relative_to(once) for kind in ("csv", "safetensors") for path in once.rglob(f"*.{kind}")]
    assert {path.parts[0] for path in same} >= {"predictions", "bundle", "metrics.csv"}
    for path in same:
        assert (once / path).read_bytes() == (twice / path).read_bytes(), path
    described = [json.loads((folder / "report" / "data.json").read_text())["outputs"] for folder in (once, twice)]
    assert described[0] == described[1]
    assert "thresholds" in described[0]["mood"]


@pytest.mark.parametrize(
    ("monitor", "fault"),
    [
        ({"output": "z"}, r"trainer\.monitor\.output: 'z' is not an output \(there are: y\)"),
        ({"metric": "acuracy"}, r"trainer\.monitor\.metric: 'acuracy' .* did you mean 'accuracy'\?"),
        ({"output": "y", "metric": "rmse"}, r"trainer\.monitor\.metric: 'rmse' is not a metric of outputs\.y"),
    ],
)
def test_a_monitor_that_is_none(monitor: dict[str, str], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        monitor_of(experiment(trainer={"monitor": monitor}))


def test_monitors() -> None:
    found = monitor_of(experiment())
    assert (found.output, found.metric, found.mode) == ("", "loss", "min")
    found = monitor_of(experiment(trainer={"monitor": {"metric": "accuracy"}}))
    assert (found.output, found.metric, found.mode) == ("y", "accuracy", "max")
    found = monitor_of(experiment(trainer={"monitor": {"metric": "f1(1)", "mode": "min"}}))
    assert (found.output, found.metric, found.mode) == ("y", "f1(1)", "min")


@pytest.mark.parametrize(
    ("trainer", "place"),
    [
        ({"accelerator": "gpu"}, "trainer.accelerator"),
        ({"precision": "16-mixed"}, "trainer.precision"),
        ({"precision": "tf32"}, "trainer.precision"),
        ({"devices": 1000}, "trainer.devices"),
        ({"num_nodes": 2}, "trainer.num_nodes"),
        ({"max_epochs": None}, "trainer.max_epochs"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_data_is_read(
    trainer: dict[str, Any], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(run_module, "assemble", lambda *args, **kwargs: pytest.fail("data were read"))
    with pytest.raises(UserError) as refused:
        train(table_experiment(tmp_path, trainer=trainer))
    assert refused.value.faults[0].place == place
    assert not (tmp_path / "run").exists()
