from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.readme import run_all

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "01"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("runs", "sweeps", "*.csv*"))
    return copy


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(folder: Path) -> None:
    printed = run_all(HERE / "README.md", folder)
    checked = printed["python -m eir_seq check experiment=first"]
    assert "48,450 trained" in checked
    assert "all is well" in checked
    refused = printed["python -m eir_seq experiment=first inputs.review.modle.pool=max trainer.max_epochs=0"]
    for line in refused.splitlines():
        assert line in (HERE / "README.md").read_text()
    with (folder / "runs/first/predictions/reviews_test.predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    assert list(rows[0]) == ["id", "sentiment_true", "sentiment", "sentiment_p(negative)", "sentiment_p(positive)"]
    assert (folder / "runs/first/report/index.html").is_file()
    assert json.loads((folder / "runs/max/result.json").read_text())["status"] == "finished"
    with (folder / "sweeps/pool/compare.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.slow
def test_it_learns_what_the_tutorial_says(folder: Path) -> None:
    run_all(HERE / "README.md", folder, fast=())
    result = json.loads((folder / "runs/first/result.json").read_text())
    assert result["validation"]["sentiment"]["accuracy"] > 0.92
