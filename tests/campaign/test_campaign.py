"""A small seeded sample of every part of the campaign (`make campaign` runs an hour of it)."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.__main__ import SAMPLE, Line, names
from tests.campaign.case import Case

SLOW = ("signals", "soak", "sweeps")
"""Parts of which one case takes a minute; `tests.training.test_kill` sends signals to forked runs."""
NEEDS_TRACER = ("kills", "ranks", "sweeps")
TRACED = (sys.platform, platform.machine()) == ("linux", "x86_64")
"""Whether the tracer knows the system calls."""
FAST = [part for part in names() if part not in SLOW and (part not in NEEDS_TRACER or TRACED)]


def test_every_part_has_a_sample() -> None:
    assert sorted(SAMPLE) == names()


def test_a_campaign_goes_on_with_cases_that_have_other_numbers_now() -> None:
    line = Line(
        "kills", right=["run: 1 write a", "run: 2 write b", "run: 3 write b", "gone"], wrong={"run: 4 rename b": "?"}
    )
    cases = [
        Case(name, lambda _: None) for name in ("run: 1 write b", "run: 2 write a", "run: 3 rename b", "run: 4 open c")
    ]
    assert [case.name for case in line.left(cases)] == ["run: 3 rename b", "run: 4 open c"]
    assert (line.right, line.wrong) == (["run: 1 write b", "run: 2 write a"], {})


def test_fast_parts() -> None:
    """In one process of its own, which imports the program once, computes nothing with torch and can fork."""
    _run(FAST)


@pytest.mark.slow
def test_more_of_the_fast_parts() -> None:
    _run(FAST, "3")


@pytest.mark.slow
@pytest.mark.parametrize("part", SLOW)
def test_slow_part(part: str) -> None:
    if part in NEEDS_TRACER and not TRACED:
        pytest.skip("Linux on x86_64 only")
    _run([part])


def _run(parts: list[str], times: str = "1") -> None:
    command = [sys.executable, "-m", "tests.campaign", "--parts", ",".join(parts), "--sample", times]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=1800)
    assert ended.returncode == 0, ended.stdout + ended.stderr
