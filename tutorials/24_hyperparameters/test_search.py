from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from eir_seq.commands import main
from tests.readme import run_all

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")
HERE = Path(__file__).parent


def test_the_space_suits_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eir_seq.commands.search.check_building", lambda _: None)
    assert main(["sweep", "experiment=reviews", "sweep=window", "--dry-run"]) == 0


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(tmp_path: Path) -> None:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    printed = run_all(HERE / "README.md", tmp_path)
    assert all("the best again: python -m eir_seq experiment=reviews" in text for text in printed.values())
    for name, count in (("window", 10), ("first", 2), ("second", 4)):
        with (tmp_path / "sweeps" / name / "trials.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count
        assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert ",".join(rows[0]) in (HERE / "README.md").read_text()
