"""Survival outputs in whole runs: on simulated times whose true risk is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eir_seq.config.validation import validate_experiment
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.outputs.survival.scores import concordance
from eir_seq.training.run import train

LEVELS = 5


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def weibull(path: Path, rows: int, seed: int, *, gaps: bool = False) -> tuple[Any, Any, Any]:
    """A table of Weibull times under random censoring; gives true log hazards, times and events.

    The covariates are the words of a text. With `gaps` every fifth row has no time.
    """
    draw = np.random.default_rng(seed)
    covariates = draw.integers(0, LEVELS, size=(rows, 4))
    risk = ((covariates - 2) / 2) @ np.array([1.2, -0.9, 0.6, 0.0])
    time = 10 * (draw.exponential(size=rows) * np.exp(-risk)) ** (1 / 1.5)
    censored = draw.uniform(2, 40, size=rows)
    event, time = time <= censored, np.round(np.minimum(time, censored), 2) + 0.01
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "covariates", "days", "died", "risk"])
        for row in range(rows):
            names = zip(("age", "dose", "size", "noise"), covariates[row], strict=True)
            text = " ".join(f"{name}{level}" for name, level in names)
            days = "" if gaps and row % 5 == 0 else f"{time[row]:.2f}"
            writer.writerow([f"{path.stem}-{row}", text, days, int(event[row]), risk[row] + draw.normal()])
    return risk, time, event


def experiment(folder: Path, **options: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = {"model_type": "bert", "pool": "avg", "model_init_config": sizes}
    return {
        "data": {"source": "table", "id": "id", "batch_size": 64, "cache_dir": str(folder / "cache")}
        | {split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")},
        "inputs": {"covariates": {"type": "sequence", "column": "covariates", "model": model}},
        "outputs": {"life": {"type": "survival", "time": "days", "event": "died", **options}},
        "fusion": {"type": "concat"},
        "optimizer": {"type": "adamw", "lr": 0.003},
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "threads": 1, "monitor": {"metric": "c_index"}},
    }


def test_a_run_with_missing_times(tmp_path: Path) -> None:
    """A Cox model beside a regression, where rows lack times: it is calibrated, stored, and predicts the same."""
    for seed, (split, rows) in enumerate((("train", 300), ("validation", 150), ("test", 150))):
        weibull(tmp_path / f"{split}.csv", rows, seed, gaps=True)
    given = experiment(tmp_path, times=[5, 10], horizon=10)
    given["outputs"]["score"] = {"type": "regression", "column": "risk"}
    given["data"]["on_missing"] = "keep"
    given["trainer"] |= {"max_epochs": 3, "accumulate": 2, "monitor": {"output": "life", "metric": "c_index"}}
    given["run"] = {"dir": str(tmp_path / "run")}
    result = train(validate_experiment(given), finish=write_report)
    measured = result["test"]["life"]
    assert measured["c_index"] > 0.6
    assert measured["integrated_brier"] < 0.25
    with (tmp_path / "run/predictions/test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["life_time"] == "" for row in rows] == [number % 5 == 0 for number in range(150)]
    assert all(float(row["life"]) == pytest.approx(1 - float(row["life_survival(10)"]), abs=1e-8) for row in rows)
    with (tmp_path / "run/metrics.csv").open() as file:
        noted = {(row["split"], row["metric"]) for row in csv.DictReader(file) if row["output"] == "life"}
    assert {("validation", "c_index"), ("validation", "auc"), ("test", "integrated_brier")} <= noted
    assert ("validation", "integrated_brier") not in noted  # it needs the baseline of the best weights
    state = json.loads((tmp_path / "run/bundle/outputs/life.json").read_text())["events"][0]
    with (tmp_path / "train.csv").open() as file:
        known = [row for row in csv.DictReader(file) if row["days"]]
    assert state["count"] == sum(row["died"] == "1" for row in known)
    assert state["baseline"]["times"] == state["survival"]["times"]
    predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "run/predictions/test.csv").read_text()
    assert "Survival by risk group" in (tmp_path / "run/report/index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cox", "discrete"])
def test_the_risk_that_is_learnt_ranks_rows_as_the_true_one_does(tmp_path: Path, model: str) -> None:
    for seed, (split, rows) in enumerate((("train", 1500), ("validation", 600)), start=1):
        weibull(tmp_path / f"{split}.csv", rows, seed)
    true = concordance(*weibull(tmp_path / "test.csv", 1000, 3))
    assert true is not None
    found = []
    for seed in range(3):
        given = experiment(tmp_path, model=model) | {"seed": seed, "run": {"dir": str(tmp_path / f"run {seed}")}}
        measured = train(validate_experiment(given))["test"]["life"]
        found.append(measured["c_index"])
        # that of the Kaplan-Meier curve alone is 0.20, that of the true curves 0.14
        assert measured["integrated_brier"] < 0.15
    # a row's standard error of the c-index of 1,000 rows is about 0.01; all see the same rows
    assert np.mean(found) > true - 0.01
