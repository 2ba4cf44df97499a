from __future__ import annotations

import csv
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eir_seq.commands import main
from tests.readme import FAST, run_all

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "digits"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("runs", "*.csv", "digits"))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy


def test_a_step_can_be_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(folder / "make_data.py"))["main"](96)
    assert main(["check", "experiment=generated", "trainer.threads=1"]) == 0
    assert "all is well" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(folder: Path) -> None:
    run_all(HERE / "README.md", folder, (*FAST, "trainer.max_steps=2", "scheduler.warmup=1"))
    with Image.open(folder / "drawn.png") as sheet:
        assert sheet.size == (300, 240)


@pytest.mark.slow
def test_generated_digits_are_recognized(folder: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    run_all(HERE / "README.md", folder, ("trainer.threads=1", "trainer.accelerator=cpu"))
    pictures, digits = load_digits(return_X_y=True)
    classifier = KNeighborsClassifier(5).fit(pictures * 15, digits)
    with (folder / "drawn.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = np.stack([np.asarray(Image.open(folder / row["picture"])).ravel() for row in rows])
    wanted = np.array([int(row["id"].partition("-")[0]) for row in rows])
    assert (classifier.predict(drawn) == wanted).mean() >= 0.95
    assert len({picture.tobytes() for picture in drawn}) == len(rows)
