from __future__ import annotations

import csv
import re
from pathlib import Path

from tests.readme import FAST, commands, run_all

README = Path(__file__).parents[1] / "README.md"


def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    assert len(list(commands(README))) == 15
    run_all(README, tmp_path, fast=[word for word in FAST if not word.startswith("trainer.threads")])
    with (tmp_path / "predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    assert {row["sentiment"] for row in rows} <= {"negative", "positive"}
    compared = (tmp_path / "sweeps/lr/compare.md").read_text()
    assert len(re.findall(r"\| 2 \| [\d.]+ ± ", compared)) == 2, "two settings, each with two seeds"
