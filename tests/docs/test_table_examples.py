"""Every example of the guide on tables and raw bytes trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.readme import ROOT, blocks

EXAMPLES = list(blocks(ROOT / "docs/guide/tables.md", "yaml"))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with all columns that the examples name, and the files that it names."""
    monkeypatch.chdir(tmp_path)
    lines = ["ward,smoker,age,lab_a,lab_b,zip_code,file,kind,title,body,mood,ill"]
    for number in range(16):
        Path(f"{number}.bin").write_bytes(bytes(range(number, 256)))
        kind = ("yes", "no")[number % 2]
        labs = f"{number / 3:.2f},{number % 5}"
        lines.append(f"w{number % 3},{kind},{number * 1.5},{labs},0{number % 4},{number}.bin,{kind},t,b,{kind},{kind}")
    Path("rows.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_trains(block: Any, files: Path) -> None:
    train(
        validate_experiment(
            {
                **yaml.safe_load(block.text),
                "data": {"train": "rows.csv", "validation": 0.25, "cache_dir": "cache"},
                "trainer": {"max_steps": 1, "accelerator": "cpu"},
                "run": {"dir": str(files / "run")},
            }
        )
    )
    assert json.loads((files / "run" / "result.json").read_text())["status"] == "finished"
