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
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    grid, search = run_all(HERE / "README.md", tmp_path).values()
    assert "job 0 starts (job " in grid
    assert [job.status for job in read_jobs(tmp_path / "sweeps" / "seeds")] == ["done"] * 2
    assert "2 workers in SLURM's queue" in search
    with (tmp_path / "sweeps" / "slurm" / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete"] * 4
    assert (tmp_path / "sweeps" / "slurm" / "jobs" / "worker-1.log").exists()
