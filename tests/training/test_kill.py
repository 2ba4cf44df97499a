"""Processes are killed, and the same run started again ends with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def drive(folder: Path, matrix: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kill_driver", str(folder), matrix],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return drive(tmp_path_factory.mktemp("kill"), "quick")


def check(found: dict[str, Any]) -> None:
    for name, case in found.items():
        assert case["code"] == 0, name
        assert case["digest"] == found["run" if name.startswith("run") else "whole"]["digest"], name
        assert case["leftover"] == [], name


def test_every_interrupted_run_ends_with_the_bits_of_the_whole_one(found: dict[str, Any]) -> None:
    check(found)
    assert len(found) >= 24


def test_the_kills_did_happen_and_no_finished_checkpoint_was_lost(found: dict[str, Any]) -> None:
    at = {name: (case["killed"], case["first_step"]) for name, case in found.items() if "killed" in case}
    assert at["in the first step"] == (-9, 1)
    assert at["mid-epoch"] == (-9, 8)
    assert at["at an epoch's edge, before its checkpoint"] == (-9, 8)
    assert at["before the manifest"] == (-9, 1)
    assert at["behind the manifest"] == (-9, 1)
    assert at["behind the rename"] == (-9, 8)
    assert at["writing the second checkpoint"] == (-9, 8)
    assert at["having removed one"] == (-9, 15)
    assert at["step 14, two loader workers"] == (-9, 8)
    assert any(-9 in case["killed"] for name, case in found.items() if name.startswith("random"))


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_from_outside_saves_the_step(found: dict[str, Any], name: str, code: int) -> None:
    for case in (found[name], found[f"{name} to the group, two loader workers"]):
        assert case["killed"] == code
        assert case["first_step"] >= 10, "what was done before the signal is not done again"
        assert case["seconds"] < 10


def test_a_whole_run_killed_in_any_phase_is_finished_by_the_next_start(found: dict[str, Any]) -> None:
    runs = {name: case for name, case in found.items() if name.startswith("run")}
    assert {case["killed"] for name, case in runs.items() if name != "run"} == {-9}
    assert len(runs) == 11
    for name, case in runs.items():
        assert case["report"], name
        assert case["status"] == "finished", name


@pytest.mark.slow
def test_forty_runs_killed_at_random(tmp_path: Path) -> None:
    check(drive(tmp_path, "full"))
