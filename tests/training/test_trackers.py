from __future__ import annotations

import importlib.util
import json
import logging
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.training.trackers import build_trackers, finish_trackers


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
            "tracker": tracker,
        }
    )


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
    assert build_trackers(experiment(type="csv"), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_wandb_offline_writes_config_group_and_metrics_and_resumes_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("EIR_SEQ_SWEEP", "sweep-1")
    config = experiment(type="wandb", mode="offline", tags=["a"])
    for step in (1, 2):
        trackers = build_trackers(config, tmp_path)
        trackers[0].log_metrics({"validation/loss": 0.5 / step}, step=step)
        finish_trackers(trackers)
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
        trackers = build_trackers(experiment(type="wandb", mode="online"), tmp_path)
    finish_trackers(trackers)
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
        trackers = build_trackers(experiment(type="wandb", mode="online"), tmp_path)
    finish_trackers(trackers)
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

    trackers = build_trackers(experiment(type="tensorboard"), tmp_path)
    assert isinstance(trackers[0], TensorBoardLogger)
    trackers[0].log_metrics({"validation/loss": 0.25}, step=3)
    finish_trackers(trackers)
    finish_trackers(trackers)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation/loss")] == [(3, 0.25)]
    assert "demo" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(UserError) as caught:
        build_trackers(experiment(type=package), tmp_path)
    assert str(caught.value) == (f"tracker.type: {package} is not installed; run: pip install 'eir_seq[{package}]'")
    assert list(tmp_path.iterdir()) == []
