"""A small seeded sample of every part of the campaign (`make campaign` runs all of it)."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.__main__ import names

SHARES: dict[str, float] = {
    "cache": 0.03, "damaged": 0.015, "disk": 0.04, "hostile": 0.01, "kills": 0.008, "limits": 0.03, "numbers": 0.02,
    "signals": 0.01, "soak": 0.5,
}  # fmt: skip
"""The share of each part's cases that fits a few seconds."""
SLOW = {"signals", "soak"}
"""Parts of which one case takes a minute; `tests.training.test_kill` sends signals to forked runs."""


@pytest.mark.parametrize("part", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names()])
def test_sample(part: str, tmp_path: Path) -> None:
    """In a process of its own, which computes nothing with torch and can fork."""
    if part == "kills" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("its tracer knows the system calls of Linux on x86_64")
    command = [sys.executable, "-m", "tests.campaign", "--parts", part, "--share", str(SHARES.get(part, 0.02))]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
