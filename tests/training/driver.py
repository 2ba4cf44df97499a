"""Runs a driver: a module that starts and stops training processes and prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def driven(module: str, *arguments: str) -> dict[str, Any]:
    """What ``python -m tests.training.MODULE ARGUMENTS`` prints, with one thread."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.training.{module}", *arguments],
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
