"""Runs side by side: one row per setting, mean and deviation over seeds, and what became of the others."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.commands import main
from eir_seq.errors import UserError
from eir_seq.inference.compare import compare, mean_and_deviation
from eir_seq.inference.jobs import Job


def _write_run(folder: Path, *, lr: float, seed: int, accuracy: float | None, status: str = "finished") -> None:
    folder.mkdir(parents=True)
    config = {"name": "x", "seed": seed, "optimizer": {"type": "adamw", "lr": lr}, "run": {"dir": str(folder)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "manifest.json").write_text(json.dumps({"status": status}))
    if accuracy is not None:
        result: dict[str, Any] = {
            "monitor": {"output": "sentiment", "metric": "accuracy", "value": accuracy},
            "loss": {"validation": 1 - accuracy, "test": 2 - accuracy},
            "validation": {"sentiment": {"accuracy": accuracy, "f1": accuracy / 2}},
            "test": {"sentiment": {"accuracy": accuracy - 0.1}},
        }
        (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    for number, (lr, seed, accuracy) in enumerate(
        [(0.1, 1, 0.6), (0.1, 2, 0.7), (0.01, 1, 0.8), (0.01, 2, 0.9), (0.01, 3, 0.7)]
    ):
        _write_run(folder / str(number), lr=lr, seed=seed, accuracy=accuracy)
    _write_run(folder / "5", lr=0.1, seed=3, accuracy=None, status="step 3: the loss is nan")
    (folder / "jobs").mkdir()
    jobs = [Job(number, ("+experiment=x", f"++seed={number}"), "done", 0) for number in range(5)]
    jobs += [Job(5, ("+experiment=x", "++seed=3"), "failed", 3, "step 3: the loss is nan")]
    jobs += [Job(6, ("+experiment=x", "++seed=4"), "failed", -9, "killed by SIGKILL")]
    for job in jobs:
        (folder / "jobs" / f"{job.number}.json").write_text(json.dumps(asdict(job)))
    return folder


def test_rows_are_settings_and_the_best_is_first(sweep: Path) -> None:
    comparison = compare(sweep)
    assert comparison.settings == ("optimizer.lr",)
    assert comparison.shown == ("validation.sentiment.accuracy", "test.sentiment.accuracy")
    assert [comparison.cells(row) for row in comparison.rows] == [
        ["0.01", "3", "0.8000 ± 0.1000", "0.7000 ± 0.1000"],
        ["0.1", "2/3", "0.6500 ± 0.0707", "0.5500 ± 0.0707"],
    ]


def test_dead_jobs_are_told_once_each(sweep: Path) -> None:
    assert compare(sweep).problems == (
        ("5 (experiment=x seed=3)", "failed: step 3: the loss is nan"),
        ("6 (experiment=x seed=4)", "failed: killed by SIGKILL"),
    )


def test_a_killed_run_outside_of_a_sweep_is_told(tmp_path: Path) -> None:
    _write_run(tmp_path / "a", lr=0.1, seed=1, accuracy=0.5)
    _write_run(tmp_path / "b", lr=0.1, seed=2, accuracy=None, status="running")
    assert compare(tmp_path).problems == (("b", "running, or killed"),)


def test_the_files_hold_all_metrics(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", str(sweep)]) == 0
    printed = capsys.readouterr().out
    assert "0.8000 ± 0.1000" in printed
    assert "without a result: 6 (experiment=x seed=4): failed: killed by SIGKILL" in printed
    rows = list(csv.DictReader((sweep / "compare.csv").open()))
    assert [row["optimizer.lr"] for row in rows] == ["0.01", "0.1"]
    assert float(rows[0]["validation.sentiment.f1_mean"]) == pytest.approx(0.4)
    assert float(rows[0]["validation.sentiment.accuracy_deviation"]) == pytest.approx(statistics.stdev([0.8, 0.9, 0.7]))
    assert rows[0]["seeds"] == "1 2 3"
    assert (rows[1]["runs"], rows[1]["finished"]) == ("3", "2")
    markdown = (sweep / "compare.md").read_text().splitlines()
    assert markdown[2] == "| 0.01 | 3 | 0.8000 ± 0.1000 | 0.7000 ± 0.1000 |"

    again = (sweep / "compare.csv").read_text()
    assert main(["runs", "compare", str(sweep)]) == 0
    assert (sweep / "compare.csv").read_text() == again


def test_a_sweep_of_dead_jobs_only_is_still_a_table(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "0.json").write_text(json.dumps(asdict(Job(0, ("seed=1",), "failed", 2, "no"))))
    comparison = compare(tmp_path)
    assert comparison.rows == ()
    assert comparison.problems == (("0 (seed=1)", "failed: no"),)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        compare(tmp_path)


def test_one_value_has_no_deviation() -> None:
    assert mean_and_deviation([0.5]) == "0.5000"
    assert mean_and_deviation([]) == ""
