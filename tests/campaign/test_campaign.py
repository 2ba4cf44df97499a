"""A small seeded sample of every part of the campaign (`make campaign` runs all of it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.__main__ import names

SHARES: dict[str, float] = {"damaged": 0.015, "hostile": 0.01}
"""The share of each part's cases that fits a few seconds."""


@pytest.mark.parametrize("part", names())
def test_sample(part: str, tmp_path: Path) -> None:
    """In a process of its own, which computes nothing with torch and can fork."""
    command = [sys.executable, "-m", "tests.campaign", "--parts", part, "--share", str(SHARES.get(part, 0.02))]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
