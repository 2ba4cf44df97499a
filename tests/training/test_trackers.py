from __future__ import annotations

import importlib.util
import json
import logging
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.samples import Sample
from eir_seq.training.trackers import build_trackers, finish_trackers, log_to_trackers, samples_to_trackers
from eir_seq.training.trackers.background import BackgroundTracker
from eir_seq.training.trackers.facts import group_of


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "EIR_SEQ_SWEEP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def experiment(**tracker: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate(
        {
            "name": "demo",
            "seed": 7,
            "data": {"train": "rows.csv"},
            "inputs": {"review": {"column": "text", "model": {"model_type": "bert"}}},
            "outputs": {"sentiment": {"type": "classification", "column": "label"}},
            "tracker": tracker or {"type": "csv"},
        }
    )


def told(trackers: list[BackgroundTracker], *steps: int, loss: float = 0.5) -> list[BackgroundTracker]:
    """Trackers that were given a loss at each of some steps."""
    for step in steps:
        log_to_trackers(trackers, [Measurement(1, step, "validation", "", "loss", loss / step)], step)
    return trackers


def records(run_dir: Path, runs: int = 1) -> list[Any]:
    """What `runs` offline runs wrote, once wandb's own process, which writes behind ours, has ended them all."""
    for _ in range(100):
        found = written_records(run_dir)
        if sum(record.WhichOneof("record_type") == "exit" for record in found) == runs:
            return found
        time.sleep(0.1)
    raise AssertionError("the runs were not ended")


def written_records(run_dir: Path) -> list[Any]:
    """What offline runs wrote: a 7-byte header, then LevelDB log blocks of 32 KiB (crc, length, type, piece)."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        content, position, pieces = path.read_bytes(), 7, b""
        while position + 7 <= len(content):
            if 32768 - position % 32768 < 7:
                position += 32768 - position % 32768
                continue
            _, length, kind = struct.unpack("<IHB", content[position : position + 7])
            pieces += content[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # a whole record, or the last piece of one
                record = wandb_internal_pb2.Record()
                record.ParseFromString(pieces)
                found.append(record)
                pieces = b""
    return found


def test_csv_needs_no_tracker(tmp_path: Path) -> None:
    assert build_trackers(experiment(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_wandb_offline_writes_config_group_and_metrics_and_resumes_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("EIR_SEQ_SWEEP", "sweep-1")
    config = experiment(type="wandb", mode="offline", tags=["a"])
    for step in (1, 2):
        finish_trackers(told(build_trackers(config, tmp_path), step))
        time.sleep(1.1)  # wandb names an offline folder by the second
    found = records(tmp_path, runs=2)
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert {run.run_group for run in runs} == {"sweep-1"}
    assert {run.run_id for run in runs} == {(tmp_path / "wandb" / "run_id").read_text().strip()}
    assert {run.display_name for run in runs} == {"demo"}
    values = {update.key: json.loads(update.value_json) for update in runs[0].config.update}
    assert values["cfg"] == config.model_dump(mode="json")
    logged = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(row["trainer/global_step"], row["validation/loss"]) for row in logged] == [(1, 0.5), (2, 0.25)]
    exits = [record.exit.exit_code for record in found if record.WhichOneof("record_type") == "exit"]
    assert exits == [0, 0]


def test_a_failed_run_is_marked_and_finishing_twice_is_harmless(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    trackers = build_trackers(experiment(type="wandb", mode="offline", group="mine"), tmp_path)
    finish_trackers(trackers, exit_code=3)
    finish_trackers(trackers, exit_code=3)
    found = records(tmp_path)
    assert [record.exit.exit_code for record in found if record.WhichOneof("record_type") == "exit"] == [3]
    assert {record.run.run_group for record in found if record.WhichOneof("record_type") == "run"} == {"mine"}


def test_online_without_a_key_warns_once_and_writes_offline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb")
    with caplog.at_level(logging.WARNING, "eir_seq"):
        finish_trackers(build_trackers(experiment(type="wandb", mode="online"), tmp_path))
    assert [record.message for record in caplog.records if "offline" in record.message] == [
        "tracker: no Weights & Biases key (WANDB_API_KEY); writing offline"
    ]
    assert records(tmp_path)


def test_online_without_a_connection_warns_and_writes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = pytest.importorskip("wandb")
    start = wandb.init

    def unreachable(*, mode: str, **options: Any) -> Any:
        if mode == "online":
            raise wandb.errors.CommError("timed out\nmore")
        return start(mode=mode, **options)

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "init", unreachable)
    with caplog.at_level(logging.WARNING, "eir_seq"):
        finish_trackers(build_trackers(experiment(type="wandb", mode="online"), tmp_path))
    assert "cannot be reached (timed out); writing offline" in caplog.text
    assert records(tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"0" * 40 in path.read_bytes() for path in written)


def test_no_secrets_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    address = "https://user:canary@host/"
    monkeypatch.setattr("sys.argv", ["eir_seq", f"note={address}"])
    config = experiment(type="wandb", mode="offline", group=address, tags=["api_key=canary"])
    model = {"model_type": "bert", "model_init_config": {"hub_token": "canary", "nested": {"my_password": "canary"}}}
    content = {**config.model_dump(), "note": f"Authorization: Bearer canary, {address}"}
    content["inputs"] = {"review": {"column": "text", "model": model}}
    finish_trackers(build_trackers(ExperimentConfig.model_validate(content), tmp_path))
    assert any("***" in record.run.run_group for record in records(tmp_path))
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_tensorboard_writes_into_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    trackers = told(build_trackers(experiment(type="tensorboard"), tmp_path), 2)
    samples_to_trackers(trackers, [Sample(1, 2, "tale", "once", " upon *a* time")], 2)
    finish_trackers(trackers)
    finish_trackers(trackers)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation/loss")] == [(2, 0.25)]
    (text,) = events.Tensors("samples/tale/0/text_summary")
    assert text.tensor_proto.string_val == [b"    once upon *a* time"]
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    started = plugin_data_pb2.HParamsPluginData.FromString(plugin.content).session_start_info
    assert started.hparams["optimizer.lr"].number_value == experiment().optimizer.lr  # type: ignore[attr-defined]
    assert started.hparams["inputs.review.column"].string_value == "text"
    assert "_hparams_/session_end_info" in events.summary_metadata
    plugin = events.SummaryMetadata("_hparams_/experiment").plugin_data
    shown = plugin_data_pb2.HParamsPluginData.FromString(plugin.content).experiment
    assert [info.name.tag for info in shown.metric_infos] == ["validation/loss", "test/loss"]


@pytest.mark.parametrize("package", ["wandb", "mlflow", "tensorboard"])
def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(UserError) as caught:
        build_trackers(experiment(type=package), tmp_path)
    assert str(caught.value) == (f"tracker.type: {package} is not installed; run: pip install 'eir_seq[{package}]'")
    assert list(tmp_path.iterdir()) == []


def test_all_missing_packages_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    config = experiment().model_dump() | {"tracker": ["wandb", {"type": "mlflow"}]}
    with pytest.raises(UserError) as caught:
        build_trackers(ExperimentConfig.model_validate(config), tmp_path)
    assert [fault.place for fault in caught.value.faults] == ["tracker.wandb.type", "tracker.mlflow.type"]


def finished_run(folder: Path) -> Path:
    """What a finished run has for trackers."""
    from eir_seq.outputs.reporting.sections import WorstRow
    from eir_seq.training.report_data import ReportData

    worst = [WorstRow(id="r1", error=2.5, inputs={"review": "so dull, password=canary"})]
    ReportData(worst={"validation": {"sentiment": worst}}).save(folder)
    (folder / "report" / "index.html").write_text("<p>report</p>")
    (folder / "config.yaml").write_text("name: demo\n")
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.safetensors").write_bytes(b"weights")
    return folder


RESULT = {"steps": 8, "best_step": 4, "monitor": {"value": 0.9}}


def test_wandb_gets_worst_errors_report_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    run_dir = finished_run(tmp_path)
    trackers = told(build_trackers(experiment(type="wandb", mode="offline"), run_dir), 1)
    samples_to_trackers(trackers, [Sample(1, 1, "tale", "once", " upon a time")], 1)
    finish_trackers(trackers, run_dir=run_dir, result=RESULT)
    found = records(run_dir)
    (artifact,) = [
        x.artifact for x in found if x.WhichOneof("record_type") == "artifact" and x.artifact.type == "report"
    ]
    assert [entry.path for entry in artifact.manifest.contents] == ["index.html"]
    tables = {path.parts[-2:]: json.loads(path.read_text()) for path in run_dir.rglob("*.table.json")}
    rows = {tuple(map(str, row)) for table in tables.values() for row in table["data"]}
    assert rows == {("r1", "2.5", "so dull, password=***"), ("tale", "once", " upon a time", "")}
    summary = {
        item.key: json.loads(item.value_json)
        for record in found
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert (summary["best_step"], summary["best_value"]) == (4, 0.9)


def test_under_an_agent_wandb_keeps_the_run_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # it reads the environment when it is set up, which earlier tests have done
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_RUN_ID", "ofagent1")
    monkeypatch.setenv("WANDB_PROJECT", "of-the-sweep")
    finish_trackers(build_trackers(experiment(type="wandb", mode="offline", project="mine", group="g"), tmp_path))
    run = next(record.run for record in records(tmp_path) if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.project, run.run_group, run.sweep_id) == ("ofagent1", "of-the-sweep", "", "abc")
    monkeypatch.undo()
    wandb.teardown()


def test_folds_are_a_group(tmp_path: Path) -> None:
    config = experiment()
    data = config.data.model_copy(update={"folds": 3, "fold": 1})
    assert group_of(config, tmp_path / "cv" / "fold_1") is None
    assert group_of(config.model_copy(update={"data": data}), tmp_path / "cv" / "fold_1") == f"{tmp_path.name}-cv"


def test_a_lightning_logger_is_a_tracker(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    from eir_seq.training.trackers.base import LoggerTracker

    logger = CSVLogger(tmp_path, name="wide", version="")
    finish_trackers(told([BackgroundTracker("csv", lambda: LoggerTracker(logger), patience=60)], 1, 2))
    assert (tmp_path / "wide" / "metrics.csv").read_text().splitlines() == [
        "step,validation/loss", "1,0.5", "2,0.25"
    ]  # fmt: skip


def test_mlflow_has_metrics_config_report_and_a_described_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.models import get_model_info
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("EIR_SEQ_SWEEP", "sweep-1")
    run_dir, store = finished_run(tmp_path), (tmp_path / "store").as_uri()
    config = experiment(type="mlflow", uri=str(tmp_path / "store"), tags={"of": "password=canary"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    finish_trackers(told(build_trackers(config, run_dir), 1), exit_code=1)
    trackers = told(build_trackers(config, run_dir), 2)  # which continues the same run
    log_to_trackers(trackers, [Measurement(1, 2, "test", "sentiment", "precision(a|b)", 0.75)], 2)
    samples_to_trackers(trackers, [Sample(1, 2, "tale", "once", " upon a time")], 2)
    finish_trackers(trackers, run_dir=run_dir, result=RESULT)
    client = MlflowClient(tracking_uri=store)
    experiment_of = client.get_experiment_by_name("demo")
    assert experiment_of is not None
    (run,) = client.search_runs([experiment_of.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["eir_seq.sweep"] == "sweep-1"
    assert run.data.tags["of"] == "password=***"
    assert run.data.params["inputs.review.model.model_type"] == "bert"
    assert run.data.metrics["test/sentiment/precision.a.b."] == 0.75
    assert run.data.metrics["best"] == 0.9
    history = client.get_metric_history(run.info.run_id, "validation/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"config.yaml", "report", "samples", "model"}
    info = get_model_info(f"runs:/{run.info.run_id}/model")
    assert info.flavors["python_function"]["loader_module"] == "eir_seq.inference.mlflow_model"
    assert info.signature is not None
    assert info.signature.inputs.input_names() == ["text"]
    assert not [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".pkl", ".pickle")]


@pytest.mark.slow
def test_mlflow_predicts_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    import mlflow
    import pandas as pd

    from eir_seq.inference.predictor import Predictor
    from eir_seq.training.bundle import read_bundle
    from eir_seq.training.run import train
    from eir_seq.training.trackers.mlflow_run import write_model
    from tests.training.table import table_experiment

    config = table_experiment(tmp_path, trainer={"max_steps": 2})
    train(config)
    bundle = tmp_path / "run" / "bundle"
    write_model(tmp_path / "model", bundle, config)
    texts = ["a warm day", "cold", None]
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"text": texts[:2]}))
    expected = Predictor(read_bundle(bundle)).predict([{"text": text} for text in texts[:2]])
    assert found.to_dict("records") == expected
