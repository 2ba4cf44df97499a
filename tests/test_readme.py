from __future__ import annotations

import csv
import re
from pathlib import Path

from tests.readme import commands, run_all

FAST = ("trainer=try", "trainer.max_steps=2", "data.limit=32")
"""Each job of the sweep draws its report as it always does; the other commands leave drawings out."""
README = Path(__file__).parents[1] / "README.md"


def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    assert len(list(commands(README))) == 15
    run_all(README, tmp_path, FAST, drawings=False)
    with (tmp_path / "predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    assert {row["sentiment"] for row in rows} <= {"negative", "positive"}
    compared = (tmp_path / "sweeps/lr/compare.md").read_text()
    assert len(re.findall(r"\| 2 \| [\d.]+ ± ", compared)) == 2, "two settings, each with two seeds"
