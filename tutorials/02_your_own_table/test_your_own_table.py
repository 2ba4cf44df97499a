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
    copy = tmp_path / "02"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("runs", "*.csv"))
    return copy


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(folder: Path) -> None:
    readme = (HERE / "README.md").read_text()
    printed = run_all(HERE / "README.md", folder)
    with (folder / "peptides.csv").open() as file:
        for line in file.read().splitlines()[:3]:
            assert line in readme
    checked = printed["python -m eir_seq check experiment=peptides"]
    for line in ("rows ", "inputs.chain ", "outputs.affinity ", "outputs.binds "):
        shown = next(found for found in checked.splitlines() if found.startswith(line))
        assert shown in readme
    with (folder / "predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1500
    assert list(rows[0]) == ["id", "affinity_true", "affinity", "binds_true", "binds", "binds_p(no)", "binds_p(yes)"]
    assert all(abs(float(row["affinity"])) < 10 for row in rows)


@pytest.mark.slow
def test_it_learns_what_the_tutorial_says(folder: Path) -> None:
    run_all(HERE / "README.md", folder, fast=())
    validation = json.loads((folder / "runs/peptides/result.json").read_text())["validation"]
    assert validation["affinity"]["r2"] > 0.8
    assert validation["binds"]["accuracy"] > 0.9
