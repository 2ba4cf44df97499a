from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from tests.readme import run_all

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra search)")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (extra postgres)")
    if missing := [name for name in ("initdb", "postgres") if shutil.which(name) is None]:
        pytest.skip(f"PostgreSQL's {' and '.join(missing)} is not in PATH")
    shutil.copytree(HERE, tmp_path / "copy")
    (printed,) = run_all(HERE / "README.md", tmp_path / "copy").values()
    shares = re.findall(r"^sweeps/(?:first|second) ran the trials (\d(?: and \d)*)$", printed, re.MULTILINE)
    assert sorted(int(number) for share in shares for number in share.split(" and ")) == [0, 1, 2, 3]
    states = []
    for name in ("first", "second"):
        with (tmp_path / "copy" / "sweeps" / name / "trials.csv").open() as file:
            states.append([row["state"] for row in csv.DictReader(file)])
    assert ["complete"] * 4 in states  # of the process that ended last
    assert {len(table) for table in states} == {4}
