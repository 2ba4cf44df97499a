"""Searches: spaces, samplers, pruning, shared and interrupted studies; trials are a small script."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands import main, search
from eir_seq.commands.search import checks, worker
from eir_seq.commands.search import study as studies
from eir_seq.config.sweeps import ends, grid, read_sweep
from eir_seq.errors import UserError
from eir_seq.inference.jobs import read_jobs
from tests.config.project import MINE, make_project

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")

FAKE_TRIAL = """
import json, os, pathlib, signal, sys, time
*overrides, last = sys.argv[1:]
values = dict(word.lstrip("+").split("=", 1) for word in overrides)
folder = pathlib.Path(last.partition("=")[2])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write(f"{os.getpid()}\\n")
if (folder / "result.json").exists():
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))
lr = float(values.get("optimizer.lr", 1e-3))
size = int(values.get("data.batch_size", 8))
if size == 3:
    print("row 17 has a loss of nan")
    sys.exit(3)
if size == 4:
    os.kill(os.getpid(), signal.SIGKILL)
if size == 5:
    time.sleep(60)
pause = float(os.environ.get("FAKE_PAUSE", 0))
metrics = folder / "metrics.csv"
if not metrics.exists():
    metrics.write_text("epoch,step,split,output,metric,value\\n")
loss = abs(lr - 4e-3) + size / 1e6
done = len(metrics.read_text().splitlines()) - 1
for epoch in range(done + 1, 5):
    with metrics.open("a") as file:
        file.write(f"{epoch},{epoch * 10},validation,,loss,{loss / epoch + 1}\\n")
    time.sleep(pause)
(folder / "result.json").write_text(json.dumps({
    "monitor": {"output": "", "metric": "loss", "mode": "min", "value": loss + 1},
    "validation": {"sentiment": {"accuracy": 1 - loss, "loss": loss}}, "loss": {"validation": loss + 1},
}))
"""

SPACE = """\
space:
  optimizer.lr: tag(log, interval(1e-4, 1e-2))
  data.batch_size: choice(8, 16)
"""

CONDITIONAL = """\
sampler: grid
space:
  inputs.review.model.model_type: choice(longformer, bert)
  inputs.review.model.model_init_config.attention_window:
    values: choice(32, 64)
    when: {inputs.review.model.model_type: longformer}
  seed: range(1, 4)
"""

COMMAND = """
import sys
from eir_seq.commands import search, main
from eir_seq.commands.search import checks
search.search.job_command = lambda words, run: [sys.executable, sys.argv[1], *words, f"run.dir={run}"]
search.search.WORKER = (sys.executable, *sys.argv[:2])
search.check_building = lambda everything: None
checks.preflight = lambda *_: ()
sys.exit(main(["sweep", *sys.argv[2:]]))
"""
"""A worker whose trials are the script."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    fake = tmp_path / "fake_trial.py"
    fake.write_text(FAKE_TRIAL)
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "conf" / "sweep").mkdir()
    (tmp_path / "conf" / "sweep" / "both.yaml").write_text(SPACE)
    (tmp_path / "conf" / "sweep" / "conditional.yaml").write_text(CONDITIONAL)

    def command(overrides: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, str(fake), *overrides, f"run.dir={run_dir}"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eir_seq.commands.search.search.job_command", command)
    monkeypatch.setattr(search, "check_building", lambda _: None)
    monkeypatch.setattr(checks, "preflight", lambda *_: ())  # no data belong to this experiment
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(worker, "_ASK_SECONDS", 0.1)
    monkeypatch.setattr(studies, "SETTLE_SECONDS", 0.05)
    return tmp_path


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def _starts(folder: Path, number: int | str) -> int:
    return len((folder / str(number) / "starts").read_text().split())


def _run(*words: str) -> int:
    return main(["sweep", "experiment=mine", "sweep.dir=s", *words])


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_worker_stays() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def _worker(project: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "command.py", str(project / "fake_trial.py"), "experiment=mine", "sweep.dir=s", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    STARTED.append(process)
    return process


def _wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------------------- spaces


def test_conditions_hold_in_grids_and_at_the_ends(project: Path) -> None:
    request = read_sweep(["experiment=mine", "sweep=conditional"])
    points = grid(request.space, 100)
    window, model = "inputs.review.model.model_init_config.attention_window", "inputs.review.model.model_type"
    assert len(points) == 3 * (2 + 1)
    assert all((window in point) == (point[model] == "longformer") for point in points)
    settings = ends(request.space)
    assert {(setting[model], setting.get(window), setting["seed"]) for setting in settings} == {
        ("longformer", "32", "1"), ("bert", None, "1"), ("longformer", "64", "1"), ("longformer", "32", "3"),
    }  # fmt: skip


def test_words_with_several_values_are_searched(project: Path) -> None:
    request = read_sweep(["experiment=mine", "optimizer.lr=interval(1e-4,1e-2)", "seed=int(tag(log,interval(1,64)))"])
    lr, seed = request.space
    assert (lr.kind, lr.low, lr.high, lr.log) == ("float", 1e-4, 1e-2, False)
    assert (seed.kind, seed.ends, seed.log) == ("integer", ("1", "64"), True)
    assert request.words == ("experiment=mine",)
    steps = read_sweep(["optimizer.lr=range(0.1,0.5,0.1)"]).space[0]
    assert [steps.text(point) for point in steps.points or ()] == ["0.1", "0.2", "0.3", "0.4"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["sweep=boht"], ["sweep: no option 'boht' ("]),
        ([], ["sweep.space: is empty; choose sweep=NAME (both, "]),
        (["sweep=both", "sweep.trails=3"], ["sweep.trails: unknown key; did you mean 'trials'? (command line)"]),
        (["sweep=both", "sweep.trials=0"], ["sweep.trials: 0 is not an integer >= 1 (command line)"]),
        (["sweep=both", "sweep.sampler=tpee"], ["sweep.sampler: 'tpee' is not one of "]),
        (["sweep=both", "optimizer.lr=1"], ["optimizer.lr: is a key of the space (conf/sweep/both.yaml:2); give it"]),
        (["sweep=both", "run.dir=x"], ["run.dir: each trial has its own; sweep.dir=DIR names the sweep's"]),
        (["sweep=both", "hydra.launcher.n_jobs=2"], ["hydra.launcher.n_jobs: has no effect"]),
        (["sweep=both", "sweep.sampler=grid"], ["sweep.space.optimizer.lr: a grid needs values; write choice("]),
        (["seed=tag(logg,interval(1,2))"], ["seed: unknown tag 'logg'; there is log (command line)"]),
        (["optimizer.lr=tag(log,interval(0,2))"], ["optimizer.lr: interval(0.0, 2.0) needs 0 < low < high"]),
        (["seed=shuffle(range(1,5))"], ["seed: shuffle has no effect on a search; leave it out (command line)"]),
        (["optimizer.lr=interval(-1,1)"], ["optimizer.lr: -1.0 is not "]),
        (["seed=interval(1,9)"], ["seed: 1.0 is not an integer", "seed: 9.0 is not an integer"]),
        (
            ["optimizer.lrr=interval(1,2)", "data.batch_size=0,1"],
            ["data.batch_size: 0 is not an integer >= 1", "optimizer.lrr: unknown key"],
        ),
        (
            ["inputs.review.model.model_init_config.hidden_size=64,65"],
            ["inputs.review.model.model_init_config.hidden_size: 65 is not divisible by num_attention_heads 2"],
        ),
        (["sweep=both", "sweep.direction=maximize"], ["sweep.direction: is maximize, but trainer.monitor chooses"]),
        (["sweep=both", "sweep.metrics=[stars.r3]"], ["sweep.metrics[0]: 'r3' is not a metric of outputs.stars"]),
        (["sweep=both", "sweep.metrics=[loss,stars.r2]", "sweep.pruner=asha"], ["sweep.pruner: asha stops trials"]),
        (
            ["sweep=both", "sweep.sampler=cmaes", "sweep.storage=sqlite:///s.db"],
            ["sweep.sampler: cmaes keeps a pickle"],
        ),
        (["sweep=both", "sweep.start=[nowhere]"], ["sweep.start[0]: 'nowhere' is no run folder"]),
        (
            ["sweep=both", "sweep.start=[{optimizer.lr: 1, seed: 3}]"],
            ["sweep.start[0]: seed is not a key of the space", "sweep.start[0]: optimizer.lr: 1 is not from 0.0001 to"],
        ),
        (["sweep=both", "sweep.storage=mysql://me:canary@host/x"], ["sweep.storage: 'mysql://***@host/x' is not "]),
        (["sweep=both", "data.folds=3", "sweep.pruner=asha"], ["sweep.pruner: asha stops single runs, and with data."]),
    ],
    ids=lambda value: value[-1] if value and "=" in value[-1] else "",
)
def test_a_search_with_a_fault_starts_nothing(
    project: Path, words: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*words) == 2
    captured = capsys.readouterr()
    found = captured.err.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True)), found
    assert not (project / "s" / "0").exists()


def test_a_condition_with_a_fault_is_named(project: Path) -> None:
    path = project / "conf" / "sweep" / "both.yaml"
    path.write_text("space:\n  seed: choice(1, 2)\n  data.batch_size: {values: 'choice(8, 16)', when: {seed: 3}}\n")
    with pytest.raises(UserError, match=r"sweep.space.data.batch_size.when: seed: 3 is not one of 1, 2 \(conf/sweep/"):
        read_sweep(["sweep=both"])
    path.write_text(path.read_text().replace("{seed: 3}", "{sed: 1}"))
    with pytest.raises(UserError, match="'sed' is not a key of the space with choices; did you mean 'seed'"):
        read_sweep(["sweep=both"])


def test_a_dry_run_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep=both", "sweep.trials=7", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "optimizer.lr: 0.0001 to 0.01; logarithmic" in output
    assert "minimize loss: 7 trials by tpe" in output
    assert not (project / "s").exists()


@pytest.mark.parametrize("name", ["learning_rate", "optimizers"])
def test_sweeps_that_ship_suit_an_experiment(project: Path, name: str) -> None:
    assert _run(f"sweep={name}", "--dry-run") == 0


# -------------------------------------------------------------------------------------------------- trials, samplers


SLOW = pytest.mark.slow


@pytest.mark.parametrize("sampler", ["tpe", *(pytest.param(name, marks=SLOW) for name in ("random", "cmaes", "gp"))])
def test_a_search_finds_values_and_is_repeatable(project: Path, sampler: str) -> None:
    words = ["sweep=both", f"sweep.sampler={sampler}", "sweep.trials=5", "sweep.startup_trials=3"]
    assert _run(*words) == 0
    first = _rows(project / "s")
    assert [row["state"] for row in first] == ["complete"] * 5
    assert len({row["optimizer.lr"] for row in first}) == 5
    assert all(
        float(row["value"]) == pytest.approx(1 + abs(float(row["optimizer.lr"]) - 4e-3), abs=1e-4) for row in first
    )
    assert main(["sweep", "experiment=mine", "sweep.dir=again", *words]) == 0
    assert _rows(project / "again") == first


def test_a_grid_runs_every_point_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep=conditional", "sweep.n_jobs=3") == 0
    rows = _rows(project / "s")
    points = [tuple(row.values())[4:] for row in rows]
    assert len(points) == len(set(points)) == 9
    output = capsys.readouterr().out
    assert "9 complete" in output
    assert "again: python -m eir_seq experiment=mine inputs.review.model.model_type=" in output


@pytest.mark.slow
def test_tpe_is_better_than_random(project: Path) -> None:
    """On a function of one number, after the same random trials; in process, without trials that run."""
    import statistics

    def best(sampler: str, seed: int) -> float:
        request = read_sweep(["optimizer.lr=tag(log,interval(1e-6,1))", f"sweep.sampler={sampler}"])
        storage = project / f"{sampler}{seed}"
        study = studies.Study(request.config, request.space, storage, "x", ["minimize"], seed=seed, total=40)
        study.begin({})
        found = []
        while (claim := study.claim()) is not None:
            import math

            value = abs(math.log10(claim.chosen["optimizer.lr"]) + 2.5)
            study.finish(claim, "complete", [value])
            found.append(value)
        return min(found)

    tpe, random = (statistics.fmean(best(sampler, seed) for seed in range(3)) for sampler in ("tpe", "random"))
    assert tpe < random


def test_bad_trials_are_recorded_and_the_rest_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep.sampler=grid", "data.batch_size=3,4,5,8", "sweep.n_jobs=2", "sweep.timeout=2"]
    assert _run(*words) == 0
    by_size = {row["data.batch_size"]: row for row in _rows(project / "s")}
    assert {size: row["state"] for size, row in by_size.items()} == {
        "3": "failed", "4": "failed", "5": "timeout", "8": "complete",
    }  # fmt: skip
    jobs = {job.number: job for job in read_jobs(project / "s")}
    messages = {size: jobs[int(row["number"])].message for size, row in by_size.items()}
    assert messages["3"] == "row 17 has a loss of nan"
    assert messages["4"] == "killed by SIGKILL (by the system, if memory ran out)"
    assert messages["5"] == "stopped after 2 s (sweep.timeout)"
    starts = {number: _starts(project / "s", number) for number in range(4)}
    capsys.readouterr()
    assert _run(*words) == 0  # nothing that ended is repeated
    assert {number: _starts(project / "s", number) for number in range(4)} == starts
    assert "1 complete" in capsys.readouterr().out


@pytest.mark.parametrize("pruner", ["median", *(pytest.param(name, marks=SLOW) for name in ("asha", "hyperband"))])
def test_a_pruner_stops_trials_early(project: Path, monkeypatch: pytest.MonkeyPatch, pruner: str) -> None:
    monkeypatch.setenv("FAKE_PAUSE", "0.3")
    # A good trial first; the others are worse at every evaluation.
    words = ["optimizer.lr=choice(0.004,1,2,3,4,5)", f"sweep.pruner={pruner}", "sweep.pruner_startup=1"]
    starts = ", ".join(f"{{optimizer.lr: {lr}}}" for lr in (0.004, 1, 2, 3, 4, 5))
    assert _run(*words, f"sweep.start=[{starts}]", "sweep.trials=6", "sweep.n_jobs=2", "sweep.reduction_factor=2") == 0
    states = {row["optimizer.lr"]: row["state"] for row in _rows(project / "s")}
    assert states["0.004"] == "complete"
    assert "pruned" in states.values()
    pruned = [job for job in read_jobs(project / "s") if job.status == "pruned"]
    assert pruned[-1].message.startswith(f"stopped by {pruner} at evaluation ")
    assert not (project / "s" / str(pruned[-1].number) / "result.json").exists()


def test_starting_points_come_first(project: Path) -> None:
    assert _run("sweep=both", "sweep.trials=3", "sweep.sampler=random") == 0
    best = min(_rows(project / "s"), key=lambda row: float(row["value"]))
    run = project / "run"
    run.mkdir()
    (run / "config.yaml").write_text("optimizer: {lr: 0.002}\ndata: {batch_size: 16}\ninputs: {}\noutputs: {}\n")
    words = [
        "sweep=both",
        "sweep.dir=t",
        "sweep.trials=6",
        "sweep.start=[run,s,'optimizer.lr=0.005 data.batch_size=8']",
    ]
    assert main(["sweep", "experiment=mine", *words]) == 0
    rows = _rows(project / "t")
    assert (rows[0]["optimizer.lr"], rows[0]["data.batch_size"]) == ("0.002", "16")
    assert rows[1]["optimizer.lr"] == best["optimizer.lr"]
    assert rows[4]["optimizer.lr"] == "0.005"


def test_several_objectives_give_a_front(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep=both", "sweep.trials=4", "sweep.metrics=[loss,sentiment.accuracy]") == 0
    rows = _rows(project / "s")
    assert float(rows[0]["loss"]) > 1 > float(rows[0]["sentiment.accuracy"])
    assert "the first of these again: python -m eir_seq experiment=mine optimizer.lr=" in capsys.readouterr().out


def test_a_study_of_another_search_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep=both", "sweep.trials=1") == 0
    assert _run("sweep=both", "sweep.trials=2", "trainer.threads=1") == 0  # of the machine, not of the search
    assert len(_rows(project / "s")) == 2
    (project / "s" / "sweep.json").unlink()  # the study says what it is
    assert _run("sweep=both", "sweep.trials=2") == 0
    assert (project / "s" / "sweep.json").is_file()
    capsys.readouterr()
    assert _run("sweep=both", "sweep.trials=3", "seed=5") == 2
    assert "is the name of another search in this storage" in capsys.readouterr().err


def test_a_folder_of_other_jobs_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "s" / "jobs").mkdir(parents=True)
    (project / "s" / "jobs" / "0.json").write_text(json.dumps({"number": 0, "overrides": []}))
    assert _run("sweep=both") == 2
    assert "sweep.dir: s holds the jobs of another sweep" in capsys.readouterr().err


def test_compare_names_trials_without_a_result(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep.sampler=grid", "data.batch_size=3,8") == 0
    capsys.readouterr()
    assert main(["runs", "compare", "s"]) == 0
    assert "failed: row 17 has a loss of nan" in capsys.readouterr().out


def test_no_secrets_are_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sweep=both", "sweep.trials=1", "note=https://me:canary@host/x") == 0
    written = [path for path in (project / "s").rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in written)
    assert "canary" not in capsys.readouterr().out


def test_a_package_that_is_missing_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(studies, "is_installed", lambda name: name != "optuna")
    assert _run("sweep=both") == 2
    assert capsys.readouterr().err == "sweep: optuna is not installed; run: pip install 'eir_seq[search]'\n"


# ------------------------------------------------------------------------------------------ shared and interrupted


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["", "sqlite:///study.db"])
def test_two_processes_share_a_study(project: Path, storage: str) -> None:
    words = ["sweep=both", "sweep.trials=8", *([f"sweep.storage={storage}"] if storage else [])]
    workers = [_worker(project, *words, FAKE_PAUSE="0.1") for _ in range(2)]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [row["state"] for row in _rows(project / "s")] == ["complete"] * 8
    assert [_starts(project / "s", number) for number in range(8)] == [1] * 8
    assert all(" starts: " in output for output in outputs)  # both did some


def test_a_killed_worker_loses_only_what_ran_and_repeats_nothing(project: Path) -> None:
    words = ["sweep=both", "sweep.trials=4"]
    first = _worker(project, *words, FAKE_PAUSE="0.5")
    _wait_for(lambda: (project / "s" / "1" / "metrics.csv").exists())
    first.kill()
    first.communicate()
    orphan = int((project / "s" / "1" / "starts").read_text())
    assert Path(f"/proc/{orphan}").exists()
    assert _run(*words) == 0
    _wait_for(lambda: not Path(f"/proc/{orphan}").exists())
    rows = _rows(project / "s")
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    assert [_starts(project / "s", number) for number in range(4)] == [1, 2, 1, 1]


@pytest.mark.slow
def test_a_signal_stops_a_search_which_then_continues(project: Path) -> None:
    words = ["sweep=both", "sweep.trials=3"]
    first = _worker(project, *words, FAKE_PAUSE="0.5")
    _wait_for(lambda: (project / "s" / "0" / "metrics.csv").exists())
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert "trial 0 stopped after" in output
    assert [row["state"] for row in _rows(project / "s")] == ["running"]
    assert _run(*words) == 0
    assert [row["state"] for row in _rows(project / "s")] == ["complete"] * 3
    assert _starts(project / "s", 0) == 2


def test_a_silent_worker_of_another_machine_is_replaced(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = read_sweep(["sweep=both", "sweep.heartbeat=0.1"])

    def study(name: str) -> studies.Study:
        found = studies.Study(request.config, request.space, project / "s", "x", ["minimize"], seed=0, total=1)
        found.begin({})
        return found

    gone, other = study("gone"), study("other")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(studies, "machine", lambda: "elsewhere")
        claim = gone.claim()
        assert claim is not None
    assert other.claim() is None
    assert other.pending  # it may be gone
    time.sleep(0.05)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(studies, "machine", lambda: "elsewhere")
        assert gone.beat(claim)
    assert other.claim() is None
    assert not other.pending  # it lives
    time.sleep(0.35)
    taken = other.claim()
    assert taken is not None
    assert (taken.number, taken.chosen) == (claim.number, claim.chosen)
    assert not gone.beat(claim)
    assert not gone.finish(claim, "complete", [1.0])
    assert other.finish(taken, "complete", [2.0])
    assert other.trials()[0].values == (2.0,)


# ------------------------------------------------------------------------------------------------------- real runs


@pytest.mark.slow
def test_real_runs_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, MINE.replace("  stars:\n    type: regression\n    column: stars\n", ""))
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    words = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "inputs.review.model.model_type=bert,longformer"]
    short = ["trainer.max_steps=2", "data.limit=64", "trainer.threads=1", "inputs.review.max_length=32"]
    assert _run(*words, *short, "sweep.trials=2", f"data.cache_dir={tmp_path / 'cache'}") == 0
    for row in _rows(tmp_path / "s"):
        result = json.loads((tmp_path / "s" / row["run_dir"] / "result.json").read_text())
        assert result["monitor"]["value"] == float(row["value"])
        config = (tmp_path / "s" / row["run_dir"] / "config.yaml").read_text()
        assert f"lr: {float(row['optimizer.lr'])}" in config
    # What cannot be built is reported before any trial.
    assert _run("trainer.accelerator=cpu,mps", *short, "sweep.dir=t") == 2
    assert not (tmp_path / "t" / "0").exists()


# ------------------------------------------------------------------------------------------------------ PostgreSQL


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as the test, on a free port, in a folder of its own."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (extra postgres)")
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL's {' and '.join(missing)} is not in PATH")
    user = "nobody" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="eir_seq_pg_"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    base = ["-D", str(folder / "data")]
    quiet: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(["initdb", *base, "-U", "me", "-A", "trust", "--no-sync"], check=True, **quiet)
        settings = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        server = subprocess.Popen(["postgres", *base, *settings], **quiet)
        import psycopg2

        def answers() -> bool:
            try:
                psycopg2.connect(host="127.0.0.1", port=port, user="me", dbname="postgres").close()
            except psycopg2.OperationalError:
                return False
            return True

        _wait_for(answers)
        yield f"postgresql://me:canary@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_machines_share_a_study_through_postgresql(project: Path, postgresql: str) -> None:
    """Two workers with folders of their own, as on two machines, one of which is killed and started again."""
    words = ["sweep=both", "sweep.trials=6", f"sweep.storage={postgresql}", "sweep.heartbeat=1"]
    first, second = (_worker(project, *words, f"sweep.dir={name}", FAKE_PAUSE="0.3") for name in ("a", "b"))
    _wait_for(lambda: len(list(project.glob("[ab]/[0-9]/starts"))) >= 2)
    first.kill()
    first.communicate()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "canary" not in output
    rows = _rows(project / "b")
    assert [row["number"] for row in rows] == [str(number) for number in range(6)]
    assert main(["sweep", "experiment=mine", *words, "sweep.dir=a"]) == 0
    assert [row["state"] for row in _rows(project / "a")] == ["complete"] * 6
    finished = [path.parent for path in project.glob("[ab]/[0-9]/result.json")]
    assert all(_starts(folder.parent, folder.name) <= 2 for folder in finished)


def test_a_storage_out_of_reach_is_told_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (extra postgres)")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = found.getsockname()[1]
        assert _run("sweep=both", f"sweep.storage=postgresql://me:canary@127.0.0.1:{port}/x") == 2
    error = capsys.readouterr().err
    assert error.startswith("sweep.storage: postgresql://***@127.0.0.1:")
    assert error.count("\n") == 1
    assert "refused" in error
