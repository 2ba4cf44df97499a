from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from eir_seq.inference.jobs import read_jobs
from tests.readme import run_all

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra search)")
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    first, second, _ = run_all(HERE / "README.md", tmp_path).values()
    assert "trial 3 starts (node " in first
    assert "4 trials have ended" in second
    assert "trial 4 starts: " in second
    with (tmp_path / "sweeps" / "ray" / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete"] * 5
    assert [job.status for job in read_jobs(tmp_path / "sweeps" / "seeds")] == ["done"] * 2
