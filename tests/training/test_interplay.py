"""Every kind of input beside every kind of output, from a config to predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.validation import validate_experiment
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.run import train
from tests.training.everything import INPUTS, OTHER_ENCODERS, OUTPUTS, SPAN, TARGETS, experiment, write_rows

LABELS = {*(column for columns in TARGETS for column in columns), "answers"}


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of rows with gaps, of rows without, and of new rows without targets."""
    folder = tmp_path_factory.mktemp("everything")
    write_rows(folder, "train", 32, 0, gaps=True)
    write_rows(folder, "whole", 24, 1)
    rows = [json.loads(line) for line in write_rows(folder, "new", 5, 2).read_text().splitlines()]
    unlabelled = [{key: value for key, value in row.items() if key not in LABELS} for row in rows]
    (folder / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unlabelled))
    return folder


def run(folder: Path, name: str, inputs: Any, outputs: Any, *, report: bool = False, **sections: Any) -> Path:
    config = validate_experiment(experiment(folder, inputs, outputs, name, **sections))
    train(config, finish=write_report if report else None)
    return folder / name


def predicted(run: Path, folder: Path) -> list[dict[str, str]]:
    """The rows without targets, predicted by the bundle from a file, and the same from memory."""
    table = predict(run / "bundle", test=str(folder / "new.jsonl"), output=run / "new.csv", accelerator="cpu")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    given = [json.loads(line) for line in (folder / "new.jsonl").read_text().splitlines()]
    for row in given:  # files are found beside the table
        row |= {name: str(folder / row[name]) for name in ("array", "genes", "picture", "file")}
    in_memory = Predictor(read_bundle(run / "bundle"), accelerator="cpu", file_dir=folder).predict(given)
    for row, other in zip(rows, in_memory, strict=True):
        assert row.keys() - {"not predicted"} == {"id", *other}
        for column, value in other.items():
            same = float(row[column]) == pytest.approx(value, rel=1e-6) if isinstance(value, float) else True
            assert same, column
    return rows


def test_all_kinds_at_once(folder: Path) -> None:
    """Rows with gaps, dropped inputs, averaged weights, weighted losses; then a run that starts from it."""
    inputs = {name: {**given, "modality_dropout": 0.2} for name, given in INPUTS.items()}
    extras = {
        "data": {"on_missing": "keep"},
        "trainer": {
            "max_epochs": 1,
            "averaging": {"type": "ema", "decay": 0.9},
            "loss_weighting": {"type": "uncertainty"},
            "train_metrics": True,
            "monitor": "average",
        },
    }
    first = run(folder, "all", inputs, OUTPUTS, report=True, **extras)
    assert (first / "report" / "index.html").is_file()
    rows = predicted(first, folder)
    assert [row["id"] for row in rows] == [f"new{number}" for number in range(5)]
    result = json.loads((first / "result.json").read_text())
    assert result["validation"].keys() >= OUTPUTS.keys()
    # on the same rows, what was fitted is the same: thresholds and baseline hazards are not among it
    again = experiment(folder, inputs, OUTPUTS, "again", **extras, start_from={"run": str(first), "load": {"*": "*"}})
    text = str(check(validate_experiment(again)))
    assert "all is well" in text
    assert max(map(len, text.splitlines())) < 800  # curves of survival and the like are not printed in full


def test_gradnorm_muon_and_layer_decay_with_decoders(folder: Path) -> None:
    """A decoder of an output has no encoder; a text has an answer and is read by all others, too."""
    inputs = {**SPAN["inputs"], "tabular": INPUTS["tabular"]}
    outputs = {**SPAN["outputs"], "text": OUTPUTS["text"], "classification": OUTPUTS["classification"]}
    chosen: dict[str, dict[str, Any]] = {
        "muon": {"optimizer": {"type": "muon", "lr": 0.01}, "trainer": {"loss_weighting": {"type": "gradnorm"}}},
        "decay": {"optimizer": {"type": "adamw", "layer_decay": 0.5}},
    }
    for name, sections in chosen.items():
        data = {"train": str(folder / "whole.jsonl")}
        assert len(predicted(run(folder, name, inputs, outputs, data=data, **sections), folder)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [*INPUTS, *OTHER_ENCODERS])
def test_each_input_alone(folder: Path, name: str) -> None:
    given = {**INPUTS, **OTHER_ENCODERS}[name]
    data = {"on_missing": "keep", "on_bad_row": "skip"}
    stem = name.replace(" ", "_")
    finished = run(folder, f"run_{stem}", {stem: given}, OUTPUTS, report=True, data=data)
    assert len(predicted(finished, folder)) == 5
