"""Each bad config gives its lines and exit code 2, leaves nothing behind, and never loads torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eir_seq.commands.multirun  # noqa: F401 (patched below)
from eir_seq.commands import main
from tests.config.bad_configs import BAD, Bad
from tests.config.project import MINE, make_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bad", BAD, ids=[bad.id for bad in BAD])
def test_each_fault_is_one_line_at_its_place(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(tmp_path, bad.yaml)
    monkeypatch.chdir(tmp_path)
    for command in ("train", "multirun"):  # what the data show has tests of its own
        monkeypatch.setattr(f"eir_seq.commands.{command}.preflight", lambda *_: ())
    before = sorted(tmp_path.rglob("*"))

    code = main(["experiment=mine", *bad.words])

    captured = capsys.readouterr()
    shipped = f"{ROOT}{os.sep}"
    assert captured.err.replace(shipped, "").splitlines() == list(bad.lines)
    assert captured.out == ""
    assert code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_the_table_is_long_and_its_good_twin_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eir_seq.config.compose import compose_experiment

    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(BAD) >= 150
    assert len({bad.id for bad in BAD}) == len(BAD)
    assert compose_experiment(["experiment=mine"]).config.name == "mine"


_ALL_IN_ONE_PROCESS = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from eir_seq.commands import main
codes = []
for words in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        codes.append(main(words))
heavy = {"torch", "lightning", "datasets", "transformers", "pandas", "matplotlib", "huggingface_hub"}
print(json.dumps([codes, sorted(heavy & set(sys.modules))]))
"""


def test_no_config_error_loads_torch(tmp_path: Path) -> None:
    make_project(tmp_path)
    lines = [["experiment=mine", *bad.words] for bad in BAD[::6] if bad.yaml == MINE]
    lines += [
        ["--cfg", "job", "experiment=mine"],
        ["models", "list"],
        ["models", "show", "bert"],
        ["--help"],
        ["schema"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", _ALL_IN_ONE_PROCESS, str(ROOT), json.dumps(lines)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    codes, heavy = json.loads(done.stdout)
    assert codes == [2] * (len(lines) - 5) + [0] * 5
    assert heavy == []


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "eir_seq", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_real_process_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    make_project(tmp_path)
    done = _run(tmp_path, "+experiment=mine", "~outputs.stars", "inputs.review.model.model_init_config.hiden_size=8")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    # Its time is not measured, as other processes share the cores. Imports take most of it, and
    # `test_no_config_error_loads_torch` allows no heavy one.


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    make_project(tmp_path)
    done = _run(tmp_path, "experiment=mine", "seed=x", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "seed: 'x' is not an integer" in done.stderr


def test_a_good_file_may_have_a_byte_order_mark_and_windows_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eir_seq.config.compose import compose_experiment

    make_project(tmp_path, "\ufeff" + MINE.replace("\n", "\r\n"))
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    config = compose_experiment(["experiment=mine"]).config
    assert time.process_time() - start < 1.0
    assert config.inputs["review"].model.model_init_config["hidden_size"] == 64
