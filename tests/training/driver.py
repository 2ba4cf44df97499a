"""Runs a driver: a module that starts and stops training processes and prints what came of it as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests import warm

ROOT = Path(__file__).parents[2]


def driven(module: str, *arguments: str) -> dict[str, Any]:
    """What ``python -m tests.training.MODULE ARGUMENTS`` prints, with one thread."""
    done = warm.run(
        ["-m", f"tests.training.{module}", *arguments],
        cwd=ROOT,
        environment={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
