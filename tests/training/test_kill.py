"""Training processes get signals from outside, and the same run started again ends with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kill_driver", str(tmp_path_factory.mktemp("kill"))],
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


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_to_a_run_and_its_loader_workers_saves_the_step(found: dict[str, Any], name: str, code: int) -> None:
    case = found[name]
    assert case["killed"] == code
    assert case["first_step"] >= 10, "what was done before the signal is not done again"
    assert case["seconds"] < 10
    assert case["code"] == 0
    assert case["digest"] == found["whole"]["digest"]
    assert case["leftover"] == []
