"""From YAML's columns to trained weights, to a bundle, and to predictions, for every architecture with own tensors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.training.run import train
from tests.modalities.tensor_tables import CASES, tensor_experiment


def accuracy(table: Path) -> float:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    return sum(row["kind"] == row["kind_true"] for row in rows) / len(rows)


@pytest.mark.parametrize("name", CASES)
def test_only_the_tensor_tells_the_class_and_the_bundle_knows_it(name: str, tmp_path: Path) -> None:
    config = tensor_experiment(name, tmp_path)
    train(config)
    run = tmp_path / "run"
    assert accuracy(run / "predictions" / "test.csv") > 0.9
    predicted = predict(run / "bundle", test=str(tmp_path / "test.jsonl"), output=tmp_path / "again.csv")
    assert predicted.read_bytes() == (run / "predictions" / "test.csv").read_bytes()
    page = write_report(run).read_text(encoding="utf-8")
    assert "kind" in page
