"""Six kinds of inputs and five of outputs, and every row lacks some of both: runs train, count and predict it all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.validation import validate_experiment
from eir_seq.inference.predict import predict
from eir_seq.training.run import train
from tests.recipes import Tables, write_inputs
from tests.recipes.arrays import make_array
from tests.recipes.genotypes import make_genotypes
from tests.recipes.images import make_picture
from tests.recipes.words import make_category, make_text, make_text_file

MAKES = {
    "genes": make_genotypes(snps=40),
    "scan": make_array(1),
    "photo": make_picture,
    "text": make_text,
    "raw": make_text_file,
    "level": make_category,
}
TARGETS: dict[str, list[str]] = {
    "origin": ["origin"],
    "numbers": ["height", "size"],
    "life": ["days", "died"],
    "traits": ["tall", "early"],
    "grade": ["grade"],
}
READER = {"model_type": "sequence-default", "model_init_config": {"embedding_dim": 8, "num_layers": 1, "num_heads": 2}}
INPUTS: dict[str, Any] = {
    "genes": {"type": "omics", "column": "genes", "model": {"model_type": "linear"}},
    "scan": {"type": "array", "column": "scan", "model": {"model_type": "linear"}},
    "photo": {"type": "image", "column": "photo", "size": 8, "mode": "L", "model": {"model_type": "cnn"}},
    "text": {"type": "sequence", "column": "text", "max_length": 32, "model": READER},
    "raw": {"type": "bytes", "column": "raw", "max_length": 64, "model": READER},
    "level": {"type": "tabular", "categorical": ["level"]},
}
OUTPUTS: dict[str, Any] = {
    "origin": {"type": "classification", "column": "origin"},
    "numbers": {"type": "regression", "columns": ["height", "size"]},
    "life": {"type": "survival", "time": "days", "event": "died", "model": "discrete", "bins": 4, "horizon": 700},
    "traits": {"type": "multi_label", "columns": ["tall", "early"]},
    "grade": {"type": "ordinal", "column": "grade", "order": ["low", "mid", "high"]},
}
Rows = list[dict[str, str]]


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def take_away(path: Path) -> Rows:
    """More targets, and gaps: row ``n`` lacks the inputs ``n`` and ``5 n + 2`` of six, the target ``n`` of five."""
    rows = read(path)
    inputs, targets = list(MAKES), list(TARGETS)
    for number, row in enumerate(rows):
        height = float(row["height"])
        row |= {"tall": str(int(height > 165)), "early": str(int(float(row["days"]) < 800))}
        row["grade"] = "low" if height < 150 else "mid" if height < 180 else "high"
        for name in {inputs[number % 6], inputs[(5 * number + 2) % 6]}:
            row[name] = ""
        for column in TARGETS[targets[number % 5]]:
            row[column] = ""
        if number % 5 == 0:
            row["early"] = row["size"] = ""  # one of two columns
    write(path, rows)
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    """A run of two epochs, and its tables."""
    folder = tmp_path_factory.mktemp("everything")
    tables = write_inputs(folder, MAKES, per_class=40, test=40)
    take_away(tables.train)
    take_away(tables.test)
    config = {
        "data": {
            "train": str(tables.train),
            "test": str(tables.test),
            "validation": 0.2,
            "id": "id",
            "batch_size": 16,
            "on_missing": "keep",
            "cache_dir": str(folder / "cache"),
        },
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "fusion": {"type": "attention", "num_layers": 1, "hidden_size": 16, "num_heads": 2},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    train(validate_experiment(config))
    return folder / "run", tables


def lacking(rows: Rows) -> dict[str, int]:
    """What is missing, counted by hand; several columns of one target are missing where all of them are."""
    counts = {f"inputs.{name}": sum(row[name] == "" for row in rows) for name in MAKES}
    for name, columns in TARGETS.items():
        counts[f"outputs.{name}"] = sum(all(row[column] == "" for column in columns) for row in rows)
    return counts


def test_everything_is_counted(finished: tuple[Path, Tables]) -> None:
    run, tables = finished
    data = json.loads((run / "manifest.json").read_text())["data"]
    train_rows = read(tables.train)
    assert data["rows"] == {"train": 64, "validation": 16, "test": 40}
    assert data["missing"]["test"] == lacking(read(tables.test))
    both = {
        key: data["missing"]["train"].get(key, 0) + data["missing"]["validation"].get(key, 0) for key in lacking([])
    }
    assert both == lacking(train_rows)
    for row in train_rows:
        counts = lacking([row])
        assert any(counts[f"inputs.{name}"] for name in MAKES)
        assert any(counts[f"outputs.{name}"] for name in TARGETS)


def test_metrics_are_those_of_the_targets_that_are_there(finished: tuple[Path, Tables]) -> None:
    run, tables = finished
    measured = json.loads((run / "result.json").read_text())["test"]
    predicted = read(run / "predictions" / "test.csv")
    true = {row["id"]: row for row in read(tables.test)}
    assert [row["id"] for row in predicted] == list(true)

    def pairs(column: str, found: str) -> list[tuple[str, str]]:
        return [(true[row["id"]][column], row[found]) for row in predicted if true[row["id"]][column] != ""]

    def close(metric: float, expected: float) -> None:
        assert math.isclose(metric, expected, rel_tol=1e-4)  # predictions are written with nine digits

    for name in ("origin", "grade"):
        known = pairs(name, name)
        assert len(known) == 32
        close(measured[name]["accuracy"], sum(a == b for a, b in known) / len(known))
    for column in ("height", "size"):
        known = pairs(column, f"numbers({column})")
        error = sum(abs(float(a) - float(b)) for a, b in known) / len(known)
        close(measured["numbers"][f"mae({column})"], error)
    labels = [
        (a == "1") != (float(b) >= 0.5) for column in ("tall", "early") for a, b in pairs(column, f"traits_p({column})")
    ]
    close(measured["traits"]["hamming"], sum(labels) / len(labels))
    known_lives = [row for row in predicted if true[row["id"]]["days"] != ""]
    lives = [(float(true[row["id"]]["days"]), true[row["id"]]["died"], float(row["life"])) for row in known_lives]
    right = total = 0.0
    for time, died, risk in lives:
        for later, _, other in lives:
            if died == "1" and later > time:
                total += 1
                right += 1.0 if risk > other else 0.5 if risk == other else 0.0
    close(measured["life"]["c_index"], right / total)


def test_rows_of_nothing_but_one_input_are_predicted(finished: tuple[Path, Tables], tmp_path: Path) -> None:
    """Without any target, and with one input each; a file with all rows gives the predictions of the run."""
    run, tables = finished
    rows = read(tables.test)
    inputs = list(MAKES)
    single = [
        {"id": row["id"], **{name: row[name] if name == kept else "" for name in inputs}}
        for row, kept in zip(rows, (next(name for name in inputs if row[name]) for row in rows), strict=True)
    ]
    write(tables.test.with_name("single.csv"), single)
    path = predict(run, test=str(tables.test.with_name("single.csv")), output=tmp_path / "single.csv")
    predicted = read(path)
    assert [row["id"] for row in predicted] == [row["id"] for row in rows]
    assert all(row[f"origin_p({name})"] for row in predicted for name in ("Africa", "Asia", "Europe"))
    again = read(predict(run, test=str(tables.test), output=tmp_path / "again.csv"))
    before = read(run / "predictions" / "test.csv")
    for old, new in zip(before, again, strict=True):
        assert old.keys() == new.keys()
        assert math.isclose(float(old["life"]), float(new["life"]), rel_tol=1e-5)
        assert [old[name] for name in ("id", "origin", "origin_true", "grade")] == [
            new[name] for name in ("id", "origin", "origin_true", "grade")
        ]
