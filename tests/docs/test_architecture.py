"""The page about the architecture says what is so: its pictures, and how many files it takes to add something."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_structure import TOY
from tests.readme import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOYS = ROOT / "tests" / "docs" / "toys"
MOST = {"a kind of input": 4, "a kind of output": 4, "a metric": 1, "an architecture": 4}


def _table() -> dict[str, list[str]]:
    """What can be added -> the product files that it takes."""
    section = PAGE.split("## To add something")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (an? [^|]+?) \| ([^|]+) \| (\d+) \|$", section, re.MULTILINE)
    found = {what: re.findall(r"`([^`]+)`", files) for what, files, _ in rows}
    assert {what: len(files) for what, files in found.items()} == {what: int(count) for what, _, count in rows}
    return found


def _python_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")]


TABLE = _table()


def test_what_is_added_most_often_takes_few_files() -> None:
    assert {what: count for what, count in MOST.items() if len(TABLE[what]) > count} == {}


@pytest.mark.parametrize("what", TABLE)
def test_the_files_exist(what: str) -> None:
    patterns = [re.sub(r"[A-Z]{3,}", "*", file) for file in TABLE[what]]
    assert [pattern for pattern in patterns if not any(ROOT.glob(pattern))] == []


@pytest.mark.parametrize(
    ("what", "folder", "files"),
    [
        ("a kind of input", "eir_seq/modalities/KIND", _python_files(TOYS / "modalities/vector")),
        ("a kind of output", "eir_seq/outputs/KIND", _python_files(TOYS / "outputs/duration")),
        ("an architecture", "eir_seq/models/families/NAME", [*TOY]),
    ],
)
def test_the_toys_have_no_other_files(what: str, folder: str, files: list[str]) -> None:
    # tests/models/test_structure.py trains the toy architecture, the next test the other ones.
    assert {name for name in TABLE[what] if name.startswith(folder)} == {f"{folder}/{name}" for name in files}


def test_toys_train_predict_and_are_reported(tmp_path: Path) -> None:
    draw = random.Random(0)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "age", "size", "time", "event"])
        for row in range(60):
            age = draw.random()
            writer.writerow([row, age, draw.random(), draw.expovariate(1 + 9 * age), int(draw.random() < 0.8)])
    experiment: dict[str, Any] = {
        "data": {"train": "rows.csv", "id": "id", "batch_size": 16, "cache_dir": "cache"},
        "inputs": {"patient": {"type": "vector", "numbers": ["age", "size"]}},
        "outputs": {"death": {"type": "duration", "time": "time", "event": "event"}},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "threads": 1,
            "monitor": {"output": "death", "metric": "c_index"},
        },
        "run": {"dir": "run"},
    }
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/toy.yaml").write_text("# @package _global_\n" + json.dumps(experiment))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(TOYS / "train.py")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "run/result.json").read_text())["monitor"]["mode"] == "max"
    assert "C-index" in (tmp_path / "run/report/index.html").read_text()
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == 61


def test_pictures_are_those_of_the_script() -> None:
    spec = importlib.util.spec_from_file_location("diagrams", ROOT / "docs" / "diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    diagrams = importlib.util.module_from_spec(spec)
    sys.modules["diagrams"] = diagrams  # dataclasses look their module up
    spec.loader.exec_module(diagrams)
    for name, picture in diagrams.PICTURES.items():
        drawn = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert drawn == picture(), f"run `python docs/diagrams.py`: {name} is older than the packages' layers"
