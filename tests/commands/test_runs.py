"""``runs list``, ``runs show`` and ``runs clean``: what a run folder says, and what may be removed from it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.commands import main
from eir_seq.inference.jobs import Job
from eir_seq.inference.run_list import find_runs, read_run
from eir_seq.training.folder import owner_of, taken

SESSION = {
    "started": "2026-01-02T03:04:05+00:00",
    "ended": "2026-01-02T03:05:05+00:00",
    "command_line": "python -m eir_seq train experiment=x seed=1 run.dir=elsewhere",
    "host": os.uname().nodename,
    "device": "cpu",
}
METRICS = """epoch,step,split,output,metric,value
1,10,train,,loss,0.7
1,10,validation,sentiment,accuracy,0.6
1,20,validation,sentiment,accuracy,0.9
1,30,validation,sentiment,accuracy,0.8
"""


def write_run(folder: Path, status: str = "finished", **config: Any) -> Path:
    """A run whose checkpoints are of 1,000 bytes each."""
    for name in ("checkpoints/step-00000010", "checkpoints/step-00000020", "checkpoints/best-00000020", "bundle"):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights").write_bytes(b"0" * 1000)
    content: dict[str, Any] = {
        "name": "x",
        "seed": 1,
        "outputs": {"sentiment": {"type": "classification", "column": "label"}},
        "trainer": {"monitor": {"metric": "accuracy"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content | config))
    manifest = {"name": "x", "status": status, "sessions": [SESSION], "data": {"rows": {"train": 10, "validation": 5}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.csv").write_text(METRICS)
    if status == "finished":
        result = {
            "steps": 30,
            "best_step": 20,
            "monitor": {"output": "sentiment", "metric": "accuracy", "mode": "max", "value": 0.9},
            "validation": {"sentiment": {"accuracy": 0.9}},
        }
        (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "10")
    write_run(tmp_path / "2", "stopped by signal 15")
    write_run(tmp_path / "deep" / "3", "step 3: the loss is nan")
    write_run(tmp_path / "4", "running")
    (write_run(tmp_path / "5") / "manifest.json").write_text("{")
    return tmp_path


@pytest.fixture
def running(runs: Path) -> Iterator[Path]:
    """A run that another process works on."""
    lock = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('process 1 on host', file=file, flush=True)\nprint('locked', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-S", "-c", lock, str(runs / "10" / ".owner")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield runs / "10"
        process.terminate()


def test_every_run_has_its_status(runs: Path) -> None:
    found = {run.name: run for run in find_runs(runs)}
    assert list(found) == ["deep/3", "2", "4", "5", "10"]
    assert {name: run.status for name, run in found.items()} == {
        "2": "stopped", "4": "stopped", "5": "damaged", "10": "finished", "deep/3": "failed"
    }  # fmt: skip
    assert found["4"].reason == "killed"
    assert found["deep/3"].reason == "step 3: the loss is nan"
    assert (found["10"].metric, found["10"].value, found["10"].steps) == ("sentiment.accuracy", 0.9, 30)
    assert (found["2"].metric, found["2"].value, found["2"].steps) == ("sentiment.accuracy", 0.9, 30)
    assert found["10"].seconds == 60


def test_what_is_damaged_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_run(runs / "6") / "result.json").unlink()
    (write_run(runs / "7") / "result.json").write_text('{"monitor":')
    (write_run(runs / "8") / "config.yaml").write_text("a: [")
    found = {run.name: run.reason for run in find_runs(runs) if run.status == "damaged"}
    assert found.keys() == {"5", "6", "7", "8"}
    assert found["5"].startswith("manifest.json: Expecting")
    assert found["6"] == "result.json is missing"
    assert found["7"].startswith("result.json: Expecting")
    assert main(["runs", "compare", str(runs)]) == 0
    said = capsys.readouterr().out
    for line in (
        "5: manifest.json is damaged: ",
        "6: result.json is missing",
        "7: result.json is damaged",
        "8: config",
    ):
        assert f"without a result: {line}" in said
    for name in ("2", "4", "6", "7", "10", "deep"):
        shutil.rmtree(runs / name)
    assert main(["runs", "compare", str(runs)]) == 2


def test_a_run_that_another_process_owns_is_running(running: Path) -> None:
    assert owner_of(running) == "process 1 on host"
    assert read_run(running).status == "running"


def test_looking_at_a_lock_does_not_take_it(runs: Path) -> None:
    (runs / "10" / ".owner").touch()
    before = (runs / "10" / ".owner").stat()
    assert owner_of(runs / "10") is None
    assert (runs / "10" / ".owner").stat() == before


def test_a_run_of_another_machine_may_run_there(runs: Path) -> None:
    manifest = json.loads((runs / "4" / "manifest.json").read_text())
    manifest["sessions"][0]["host"] = "other"
    (runs / "4" / "manifest.json").write_text(json.dumps(manifest))
    run = read_run(runs / "4")
    assert (run.status, run.reason) == ("running", "on other, or killed there")


def test_list_prints_a_line_per_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:5] == ["2", "x", "stopped", "sentiment.accuracy", "0.9000"]
    assert lines[-1].startswith(f"{runs}: 5 runs (1 failed, 2 stopped, 1 damaged, 1 finished)")


def test_list_as_csv(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", str(runs), "--csv"]) == 0
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert (rows["10"]["value"], rows["10"]["status"], rows["10"]["steps"]) == ("0.9", "finished", "30")
    assert int(rows["10"]["bytes"]) > 4000


def test_show_says_what_a_run_is_and_how_it_continues(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", str(runs / "2")]) == 0
    shown = capsys.readouterr().out
    assert f"continue: python -m eir_seq train experiment=x seed=1 run.dir={runs / '2'}" in shown
    assert "10 train, 5 validation" in shown
    assert "outputs.sentiment.column" in shown
    assert "checkpoints" in shown

    assert main(["runs", "show", str(runs / "10"), "--csv"]) == 0
    rows = {(row["section"], row["key"]): row["value"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["x", "status"] == "finished"
    assert rows["metrics", "validation.sentiment.accuracy"] == "0.9"
    assert rows["size", "checkpoints"] == "3000"


def test_clean_removes_what_a_finished_run_left(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "2" / ".cache").mkdir()
    (runs / "2" / ".cache" / "rows").write_bytes(b"0" * 500)
    (runs / "2" / "checkpoints" / ".partial-step-00000030-1").mkdir()
    assert main(["runs", "clean", str(runs), "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "removed: 2.5 kB" in printed
    assert "2 × checkpoint" in printed
    left = {path.relative_to(runs).as_posix() for path in runs.rglob("*") if path.is_dir()}
    assert {path for path in left if path.startswith("10/")} == {
        "10/bundle",
        "10/checkpoints",
        "10/checkpoints/best-00000020",
    }
    assert {path.name for path in (runs / "2" / "checkpoints").iterdir()} == {
        "step-00000010", "step-00000020", "best-00000020"
    }  # fmt: skip
    assert not (runs / "2" / ".cache").exists()
    assert (runs / "5" / "checkpoints" / "step-00000010").exists()  # damaged: left alone
    assert main(["runs", "clean", str(runs), "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_clean_leaves_a_running_run_alone(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "clean", str(running.parent), "--yes"]) == 0
    assert (running / "checkpoints" / "step-00000010").exists()


def test_clean_leaves_a_run_alone_that_begins_meanwhile(running: Path) -> None:
    with pytest.raises(BlockingIOError), taken(running):
        pass


@pytest.mark.parametrize(("answer", "left"), [("n\n", True), ("", True), ("y\n", False)])
def test_clean_asks(answer: str, left: bool, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["runs", "clean", str(runs)]) == 0
    assert (runs / "10" / "checkpoints" / "step-00000010").exists() == left


def test_a_dry_run_removes_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "clean", str(runs), "--dry-run", "--csv"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["run"], row["what"], row["bytes"]) for row in rows] == [
        ("10", "checkpoints/step-00000020", "1000"), ("10", "checkpoints/step-00000010", "1000")
    ]  # fmt: skip
    assert "would be removed: 2.0 kB" in printed.err
    assert (runs / "10" / "checkpoints" / "step-00000010").exists()


def test_the_optimizer_state_that_was_kept_stays_unless_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "1", trainer={"keep_optimizer_state": True})
    assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000020"]
    assert main(["runs", "clean", str(tmp_path), "--yes", "--optimizer-state"]) == 0
    assert list((run / "checkpoints").glob("step-*")) == []


def test_checkpoints_of_pruned_trials_are_removed(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    for number, status in enumerate(("pruned", "failed")):
        run = write_run(tmp_path / str(number), "stopped by signal 15")
        job = Job(number, ("x",), status)  # type: ignore[arg-type]
        (tmp_path / "jobs" / f"{number}.json").write_text(json.dumps(asdict(job)))
        assert run.is_dir()
    assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert list((tmp_path / "0" / "checkpoints").glob("step-*")) == []
    assert len(list((tmp_path / "1" / "checkpoints").glob("step-*"))) == 2


def test_a_file_with_two_names_frees_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "1")
    for name in ("step-00000010", "step-00000020"):
        (run / "checkpoints" / name / "weights").unlink()
        os.link(run / "bundle" / "weights", run / "checkpoints" / name / "weights")
    assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert "removed: 0 B" in capsys.readouterr().out
    assert (run / "bundle" / "weights").read_bytes() == b"0" * 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "nowhere"], "nowhere: no such folder"),
        (["list", "."], ".: holds no runs (folders with config.yaml and manifest.json)"),
        (["show", "."], ".: is not a run folder: it has no config.yaml and manifest.json"),
        (["show", "nowhere"], "nowhere: no such folder"),
        (["clean", "nowhere", "--yes"], "nowhere: no such folder"),
        (["tidy"], "argument list|show|compare|clean: invalid choice: 'tidy'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", *words]) == 2
    assert message in capsys.readouterr().err


def test_owning_a_folder_keeps_runs_out(tmp_path: Path) -> None:
    with taken(tmp_path):
        code = f"import fcntl\nfcntl.lockf(open({str(tmp_path / '.owner')!r}, 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        assert subprocess.run([sys.executable, "-S", "-c", code], capture_output=True).returncode == 1
    with (tmp_path / ".owner").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
