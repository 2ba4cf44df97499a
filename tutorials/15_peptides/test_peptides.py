from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eir_seq.commands import main
from tests.readme import FAST, run_all

HERE = Path(__file__).parent


def write_peptides(path: Path) -> None:
    """A table as the published one: peptides that are rich in K and L act, and so do those that begin with GLF."""
    draw = random.Random(5)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "sequence", "activity"])
        for row in range(400):
            acts = row % 2 == 0
            letters = draw.choices("ACDEFGHIKLMNPQRSTVWY" + "KKLL" * acts, k=draw.randint(11, 50))
            start = "GLF" if acts and draw.random() < 0.5 else ""
            table.writerow([f"p{row}", start + "".join(letters), "anticancer" if acts else "other"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "peptides"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("runs", "*.csv"))
    write_peptides(copy / "acp740.csv")
    return copy


def test_the_experiment_fits_the_table_that_the_script_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    subprocess.run([sys.executable, "add_columns.py", "acp740.csv", "peptides.csv"], check=True)
    with open("peptides.csv") as file:
        rows = list(csv.DictReader(file))
    assert all(row["length"] == str(len(row["sequence"])) for row in rows)
    assert all(abs(sum(float(row[name]) for name in row if name.startswith("share_")) - 1) < 0.01 for row in rows)
    assert main(["check", "experiment=peptides"]) == 0
    assert "5 folds of" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(folder: Path) -> None:
    printed = run_all(HERE / "README.md", folder, fast=(*FAST, "data.folds=2"))
    header = (folder / "peptides.csv").read_text().splitlines()[0]
    assert header.startswith("id,sequence,activity,length,charge,hydropathy,moment,share_A,share_C")
    checked = printed["python -m eir_seq check experiment=peptides"]
    assert "inputs.composition   type tabular, continuous length, charge, hydropathy, moment, share_A" in checked
    assert "5 folds of" in checked
    with (folder / "runs/peptides/out_of_fold.csv").open() as file:
        assert {row["fold"] for row in csv.DictReader(file)} == {"0", "1"}
    with (folder / "predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    assert "activity_p(anticancer)" in rows[0]


@pytest.mark.slow
def test_it_learns_what_the_generated_peptides_have(folder: Path) -> None:
    run_all(HERE / "README.md", folder, fast=("trainer.threads=1",))
    result = json.loads((folder / "runs/peptides/result.json").read_text())
    assert result["test"]["activity"]["accuracy"] > 0.7
