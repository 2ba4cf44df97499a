"""A project for searches whose trials are a small script."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eir_seq.commands import main, search
from eir_seq.commands.search import checks, worker
from eir_seq.commands.search import study as studies
from tests.config.project import make_project

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


def search_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two spaces, and an experiment whose trials are the script. Waits are short."""
    make_project(folder)
    fake = folder / "fake_trial.py"
    fake.write_text(FAKE_TRIAL)
    (folder / "command.py").write_text(COMMAND)
    (folder / "conf" / "sweep").mkdir()
    (folder / "conf" / "sweep" / "both.yaml").write_text(SPACE)
    (folder / "conf" / "sweep" / "conditional.yaml").write_text(CONDITIONAL)

    def command(overrides: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, str(fake), *overrides, f"run.dir={run_dir}"]

    monkeypatch.chdir(folder)
    monkeypatch.setattr("eir_seq.commands.search.search.job_command", command)
    monkeypatch.setattr(search, "check_building", lambda _: None)
    monkeypatch.setattr(checks, "preflight", lambda *_: ())  # no data belong to this experiment
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(worker, "_ASK_SECONDS", 0.1)
    monkeypatch.setattr(studies, "SETTLE_SECONDS", 0.05)
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def starts_of(folder: Path, number: int | str) -> int:
    return len((folder / str(number) / "starts").read_text().split())


def sweep(*words: str) -> int:
    return main(["sweep", "experiment=mine", "sweep.dir=s", *words])


STARTED: list[subprocess.Popen[str]] = []


def start_worker(project: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """A search in a process of its own."""
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


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def end_workers() -> None:
    """Kill those that still run."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()
