"""Cross-validation: a run for each fold, and what they say together."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands.train import _cross_validate
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.inference.compare import compare
from eir_seq.inference.predict import find_bundle
from eir_seq.training import folds
from eir_seq.training.check import check
from eir_seq.training.folds import cross_validate, fold_config
from eir_seq.training.run import train
from eir_seq.training.signals import Stopped
from tests.training.table import table_experiment


def experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    data = {"folds": 3, "test": None, **changes.pop("data", {})}
    return table_experiment(folder, data=data, **{"trainer": {"max_epochs": 1}, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation that a signal ended in its second fold, and that the same command brought to its end."""
    folder = tmp_path_factory.mktemp("folds")
    with pytest.MonkeyPatch.context() as patch:

        def stopped(config: ExperimentConfig, **options: Any) -> dict[str, Any]:
            if config.data.fold == 1:
                raise Stopped(15)
            return train(config, **options)

        patch.setattr(folds, "train", stopped)
        with pytest.raises(Stopped):
            cross_validate(experiment(folder))
    assert not (folder / "run" / "result.json").exists()
    before = (folder / "run" / "fold_0" / "bundle" / "model.safetensors").stat()
    _cross_validate(experiment(folder))
    after = (folder / "run" / "fold_0" / "bundle" / "model.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # it was not trained again
    return folder


def test_every_row_is_predicted_out_of_fold(finished: Path) -> None:
    run = finished / "run"
    rows = list(csv.DictReader((run / "out_of_fold.csv").open(encoding="utf-8")))
    assert [row["id"] for row in rows] == [f"train-{row}" for row in range(60)]
    assert list(rows[0])[:4] == ["id", "fold", "mood_true", "mood"]
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    for fold in range(3):
        own = list(csv.DictReader((run / f"fold_{fold}" / "predictions" / "test.csv").open(encoding="utf-8")))
        assert len(own) == 20
        assert [row["mood_true"] for row in own].count("good") == 10
        assert own == [{k: v for k, v in row.items() if k != "fold"} for row in rows if row["fold"] == str(fold)]


def test_the_table_has_mean_and_deviation(finished: Path) -> None:
    run = finished / "run"
    table = {(row["output"], row["metric"]): row for row in csv.DictReader((run / "folds.csv").open(encoding="utf-8"))}
    results = [json.loads((run / f"fold_{fold}" / "result.json").read_text()) for fold in range(3)]
    values = [result["test"]["mood"]["accuracy"] for result in results]
    row = table["mood", "accuracy"]
    assert [float(row[f"fold_{fold}"]) for fold in range(3)] == values
    assert float(row["mean"]) == statistics.fmean(values)
    assert float(row["deviation"]) == statistics.stdev(values)
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["mood"]["accuracy"] == statistics.fmean(values)
    assert result["monitor"]["value"] == statistics.fmean(found["loss"]["test"] for found in results)
    page = (run / "report" / "index.html").read_text()
    assert "../fold_2/report/index.html" in page
    assert f"{statistics.fmean(values):.4f}" in page
    assert (run / "fold_2" / "report" / "index.html").is_file()


def test_a_fold_by_itself_is_the_same_run(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes((finished / "train.csv").read_bytes())
    alone = fold_config(experiment(tmp_path), 2, tmp_path)
    train(alone)
    for name in ("predictions/test.csv", "metrics.csv"):
        assert (tmp_path / "fold_2" / name).read_bytes() == (finished / "run" / "fold_2" / name).read_bytes(), name


def test_folds_are_repetitions_to_others(finished: Path) -> None:
    (section,) = compare(finished / "run").sections
    assert [row.count for row in section.rows] == ["3"]
    with pytest.raises(UserError, match="holds the folds of a cross-validation; name one"):
        find_bundle(finished / "run")


def test_another_config_cannot_continue_the_folds(finished: Path) -> None:
    with pytest.raises(UserError, match=r"data\.folds: was 3 and is 4"):
        cross_validate(experiment(finished, data={"folds": 4}))


@pytest.mark.parametrize("folds", [61, 31])
def test_bad_folds_leave_nothing(tmp_path: Path, folds: int) -> None:
    with pytest.raises(UserError, match=f"data.folds: {folds} folds of 60 rows|has 30 rows for {folds} folds"):
        cross_validate(experiment(tmp_path, data={"folds": folds}))
    assert not (tmp_path / "run").exists()


def test_a_fault_of_the_first_fold_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = experiment(tmp_path, trainer={"max_epochs": 1, "monitor": {"output": "mood", "metric": "f1(none)"}})
    with pytest.raises(UserError, match="not a class"):
        cross_validate(config)
    assert not [path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".owner")]


def test_one_run_needs_one_fold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.fold: is missing"):
        train(experiment(tmp_path))


def test_check_counts_all_folds(tmp_path: Path) -> None:
    found = check(experiment(tmp_path))
    assert f"3 folds of {found.steps} steps" in str(found)
    alone = check(experiment(tmp_path, data={"fold": 1}))
    assert alone.folds == 1
    assert "folds of" not in str(alone)
