"""Runs side by side: one row per setting, mean and standard deviation over seeds and folds, at every width."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.commands import main
from eir_seq.config.compose import compose_experiment
from eir_seq.errors import UserError
from eir_seq.inference.compare import compare, mean_and_deviation
from eir_seq.inference.compare_table import fitted
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
    (section,) = comparison.sections
    table = fitted(comparison, section, 64)
    assert [column.title for column in table.columns] == [
        "lr", "runs", "validation.accuracy", "test.accuracy", "best run"
    ]  # fmt: skip
    assert [column.title for column in fitted(comparison, section, 1000).columns][:3] == [
        "optimizer.lr", "runs", "validation.sentiment.accuracy"
    ]  # fmt: skip
    assert list(table.rows()) == [
        ["0.01", "3", "0.8000 ± 0.1000", "0.7000 ± 0.1000", "3"],
        ["0.1", "2/3", "0.6500 ± 0.0707", "0.5500 ± 0.0707", "1"],
    ]


def test_dead_jobs_are_told_once_each(sweep: Path) -> None:
    assert compare(sweep).problems == (
        ("5 (seed=3)", "failed: step 3: the loss is nan"),
        ("6 (seed=4)", "failed: killed by SIGKILL"),
    )


def test_a_killed_run_outside_of_a_sweep_is_told(tmp_path: Path) -> None:
    _write_run(tmp_path / "a", lr=0.1, seed=1, accuracy=0.5)
    _write_run(tmp_path / "b", lr=0.1, seed=2, accuracy=None, status="running")
    assert compare(tmp_path).problems == (("b", "running, or killed"),)


def test_the_files_hold_all_metrics(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", str(sweep)]) == 0
    printed = capsys.readouterr().out
    assert "0.8000 ± 0.1000" in printed
    assert "without a result: 6 (seed=4): failed: killed by SIGKILL" in printed
    rows = list(csv.DictReader((sweep / "compare.csv").open()))
    assert [row["optimizer.lr"] for row in rows] == ["0.01", "0.1"]
    assert float(rows[0]["validation.sentiment.f1_mean"]) == pytest.approx(0.4)
    assert float(rows[0]["validation.sentiment.accuracy_deviation"]) == pytest.approx(statistics.stdev([0.8, 0.9, 0.7]))
    assert rows[0]["seeds"] == "1 2 3"
    assert (rows[1]["runs"], rows[1]["finished"]) == ("3", "2")
    markdown = (sweep / "compare.md").read_text().splitlines()
    assert markdown[0] == "## sentiment.accuracy (highest first)"
    assert markdown[4] == "| 0.01 | 3 | 0.8000 ± 0.1000 | 0.7000 ± 0.1000 | 3 |"

    again = (sweep / "compare.csv").read_text()
    assert main(["runs", "compare", str(sweep)]) == 0
    assert (sweep / "compare.csv").read_text() == again


def test_a_sweep_of_dead_jobs_only_is_still_a_table(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "0.json").write_text(json.dumps(asdict(Job(0, ("seed=1",), "failed", 2, "no"))))
    comparison = compare(tmp_path)
    assert comparison.sections == ()
    assert comparison.problems == (("0 (seed=1)", "failed: no"),)


def _write_config(folder: Path, config: Any, monitor: dict[str, Any], metrics: dict[str, dict[str, float]]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "manifest.json").write_text(json.dumps({"status": "finished"}))
    output, metric = monitor["output"], monitor["metric"]
    value = metrics[output][metric] if output else 1.0
    result = {"monitor": monitor | {"value": value}, "loss": {"validation": 1.0}, "validation": metrics}
    (folder / "result.json").write_text(json.dumps(result))


@cache
def _config_of(name: str) -> str:
    config = compose_experiment([f"experiment={name}"]).config
    return config.model_dump_json()


def _composed(name: str, seed: int) -> Any:
    return json.loads(_config_of(name)) | {"seed": seed}


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the shipped experiments: two classifiers, a language model and a translator."""
    folder = tmp_path_factory.mktemp("unlike")
    for seed in (1, 2):
        for name, accuracy in (("imdb_bert_tiny", 0.8), ("imdb_combined", 0.7), ("imdb_longformer", 0.9)):
            config = _composed(name, seed)
            metrics = {"accuracy": accuracy + seed / 100, "auroc": accuracy, "average_precision": accuracy / 2}
            monitor = {"output": "sentiment", "metric": "accuracy", "mode": "max"}
            _write_config(folder / f"{name}-{seed}", config, monitor, {"sentiment": metrics})
        config = _composed("text_gpt2", seed)
        monitor = {"output": "", "metric": "loss", "mode": "min"}
        _write_config(folder / f"gpt2-{seed}", config, monitor, {"text": {"loss": 1.0, "perplexity": 2.0 + seed}})
        config = _composed("translate_m2m100", seed)
        monitor = {"output": "translation", "metric": "bleu", "mode": "max"}
        _write_config(folder / f"m2m-{seed}", config, monitor, {"translation": {"bleu": 30.0 + seed}})
    return folder


@pytest.mark.parametrize("width", [80, 120, 200])
def test_unlike_runs_are_compared_by_what_they_monitor(
    unlike: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["runs", "compare", str(unlike)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if str(unlike) not in line]
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(line for line in lines if "more columns" not in line), "no title and no value is cut"
    headings = [line for line in lines if line.endswith(" first)")]
    assert headings == [
        "loss (lowest first)", "sentiment.accuracy (highest first)", "translation.bleu (highest first)"
    ]  # fmt: skip
    ranking = [line.split()[0] for line in lines if line.startswith("imdb_")]
    assert ranking == ["imdb_longformer", "imdb_bert_tiny", "imdb_combined"]
    assert "0.9150 ± 0.0071" in printed
    assert "31.5000 ± 0.7071" in printed
    assert f"more columns in {unlike / 'compare.csv'}" in printed
    rows = list(csv.DictReader((unlike / "compare.csv").open()))
    assert len(rows) == 5
    assert {"inputs.review.model.model_init_config.attention_window", "validation.text.perplexity_mean"} <= set(rows[0])
    assert {row["monitored"] for row in rows} == {"loss", "sentiment.accuracy", "translation.bleu"}


def test_a_wider_table_has_more_columns(unlike: Path) -> None:
    comparison = compare(unlike)
    section = comparison.sections[1]
    tables = [fitted(comparison, section, width) for width in (50, 100, 120, 200, 100_000)]
    counts = [len(table.columns) for table in tables]
    assert counts == sorted(set(counts)), "each has more columns than the one before"
    assert len({len(table.columns) + table.left_out for table in tables}) == 1, "those left out are counted"
    titles = [column.title for column in tables[-1].columns]
    assert "inputs.review.model.model_init_config.attention_window" not in titles, "only some architectures have it"
    (models,) = [column for column in tables[-1].columns if column.title == "model_type"]
    assert models.cells == ("longformer", "prajjwal1/bert-tiny", "bert + longformer + sequence-default")
    assert [column.title for column in tables[0].columns] == ["name", "lr", "runs", "validation.accuracy"]


def test_the_highest_average_over_outputs_is_first(tmp_path: Path) -> None:
    for lr, average in ((0.1, 0.3), (0.2, 0.9)):
        config = {"name": "x", "optimizer": {"lr": lr}, "outputs": {"y": {"type": "regression"}}}
        monitor = {"output": "", "metric": "average", "mode": "max"}
        _write_config(tmp_path / str(lr), config, monitor, {"y": {"r2": lr}})
        file = tmp_path / str(lr) / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"average": {"validation": average}}))
    (section,) = compare(tmp_path).sections
    assert [dict(row.settings)["optimizer.lr"] for row in section.rows] == [0.2, 0.1]


def test_the_lowest_loss_is_first(tmp_path: Path) -> None:
    for lr, loss in ((0.1, 3.0), (0.2, 1.0), (0.3, 2.0)):
        config = {"name": "x", "optimizer": {"lr": lr}, "outputs": {"y": {"type": "regression"}}}
        monitor = {"output": "y", "metric": "mse", "mode": "min"}
        _write_config(tmp_path / str(lr), config, monitor, {"y": {"mse": loss}})
    comparison = compare(tmp_path)
    assert [dict(row.settings)["optimizer.lr"] for row in comparison.sections[0].rows] == [0.2, 0.3, 0.1]


def test_without_validation_rows_those_of_the_test_decide(tmp_path: Path) -> None:
    for lr, loss in ((0.1, 3.0), (0.2, 1.0), (0.3, 2.0)):
        folder = tmp_path / str(lr)
        folder.mkdir()
        config = {"name": "x", "optimizer": {"lr": lr}, "outputs": {"y": {"type": "regression"}}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "manifest.json").write_text(json.dumps({"status": "finished"}))
        result = {"monitor": {"output": None, "metric": "loss", "value": None}, "loss": {"test": loss}, "test": {}}
        (folder / "result.json").write_text(json.dumps(result))
    (section,) = compare(tmp_path).sections
    assert [dict(row.settings)["optimizer.lr"] for row in section.rows] == [0.2, 0.3, 0.1]
    best = section.best_run(section.rows[0])
    assert best is not None
    assert best.name == "0.2"


def test_runs_of_several_folds_are_one_row(tmp_path: Path) -> None:
    for fold in range(3):
        for lr in (0.1, 0.2):
            data = {"train": f"folds/train_fold{fold}.csv", "validation": f"folds/fold_{fold}.csv", "split_seed": fold}
            config = {"name": "x", "data": data, "optimizer": {"lr": lr}, "outputs": {"y": {"type": "regression"}}}
            monitor = {"output": "y", "metric": "r2", "mode": "max"}
            _write_config(tmp_path / f"{lr}-{fold}", config, monitor, {"y": {"r2": lr + fold / 10}})
    comparison = compare(tmp_path)
    assert comparison.settings == ("optimizer.lr",)
    assert [row.count for row in comparison.sections[0].rows] == ["3", "3"]
    assert comparison.sections[0].rows[0].values("validation.y.r2") == [0.2, 0.2 + 0.1, 0.2 + 0.2]


def test_a_key_may_be_declared_a_repetition(unlike: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged = compare(unlike, over=["name"])
    assert "name" not in merged.settings
    with pytest.raises(UserError) as caught:
        compare(unlike, over=["optimizer.rl"])
    assert caught.value.faults[0].message == "no run has the key 'optimizer.rl'; did you mean 'optimizer.lr'?"
    assert main(["runs", "compare", str(unlike), "--over", "nmae"]) == 2
    assert "did you mean 'name'?" in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        compare(tmp_path)


def test_one_value_has_no_deviation() -> None:
    assert mean_and_deviation([0.5]) == "0.5000"
    assert mean_and_deviation([]) == ""


def test_small_and_large_values_keep_their_digits() -> None:
    assert mean_and_deviation([1.25e-6, 1.35e-6]) == "1.3e-06 ± 7.071e-08"
    assert mean_and_deviation([123456.0]) == "1.235e+05"
