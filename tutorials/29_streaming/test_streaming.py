from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from eir_seq.commands import main
from tests.readme import run_all

HERE = Path(__file__).parent
SHORT = ("trainer.max_steps=3", "trainer.validate_every=3", "trainer.threads=1")


def test_a_step_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(HERE / "make_data.py"))["main"](1600)
    assert main(["check", "experiment=tickets", "trainer.threads=1", f"cache.dir={tmp_path / 'cache'}"]) == 0
    assert "all is well" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(tmp_path: Path) -> None:
    shutil.copytree(HERE, tmp_path / "copy")
    printed = run_all(HERE / "README.md", tmp_path / "copy", SHORT)
    counted = "reading rows: train 21,611, validation 1,219, test 1,170, inputs and outputs are fitted on 5,000"
    assert all(counted in text for command, text in printed.items() if "eir_seq" in command)
