"""Kills training processes and starts them again: ``python -m tests.training.kill_driver FOLDER MATRIX``, JSON out.

Importing Lightning takes seconds, so this process imports all of it once, computes nothing itself (a child of a
process with OpenMP threads could hang), and forks one child per start of a run. A child ends by a real signal: its own
SIGKILL at a chosen instruction, or one that the parent sends at a chosen time.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eir_seq.inference import report
from eir_seq.training import bundle, checkpoints, loop
from eir_seq.training import run as run_module
from tests.training.harness import Watcher, experiment, outcome, run
from tests.training.table import table_experiment

Break = Callable[[], "Watcher | None"]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(step: int) -> Break:
    return lambda: Watcher(at_step=lambda now: die() if now == step else None)


def at_evaluation(step: int) -> Break:
    """After the evaluation of that step and before its checkpoint."""
    return lambda: Watcher(at_evaluation=lambda now: die() if now == step else None)


def at_call(module: Any, name: str, number: int, after: bool = False) -> Break:
    """At the n-th call of a function that saving uses."""

    def install() -> None:
        original, calls = getattr(module, name), 0

        def deadly(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number and not after:
                die()
            result = original(*args, **kwargs)
            if calls == number:
                die()
            return result

        setattr(module, name, deadly)

    return install


def forked(work: Callable[[], None]) -> int:
    """Do `work` in a child process that leads a group of its own, and give its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        work()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def child(config: Any, folder: Path, prepare: Break) -> int:
    """Start the fake run in a child process and give its id."""

    def work() -> None:
        watcher = prepare() or Watcher()
        ended = run(config, folder, watcher)
        (folder / "digest").write_text(digest(folder, ended))
        (folder / "steps").write_text(json.dumps(watcher.steps))

    return forked(work)


def digest(folder: Path, ended: Any) -> str:
    """A hash of all that must not depend on interruptions."""
    state, weights, best, metrics = outcome(folder, ended)
    summary = hashlib.sha256(repr(state).encode() + metrics)
    for name, value in [*weights.items(), *(best or {}).items()]:
        summary.update(name.encode() + value.numpy().tobytes())
    return summary.hexdigest()


def finish(config: Any, folder: Path) -> dict[str, Any]:
    """Start the run again, to its end."""
    _, status = os.waitpid(child(config, folder, lambda: None), 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "digest": (folder / "digest").read_text() if (folder / "digest").exists() else None,
        "first_step": min(json.loads((folder / "steps").read_text()), default=None) if status == 0 else None,
        "leftover": sorted(path.name for path in (folder / "checkpoints").glob(".*")),
    }


def interrupted(config: Any, folder: Path, prepare: Break) -> dict[str, Any]:
    """A run that kills itself, and the next start."""
    _, status = os.waitpid(child(config, folder, prepare), 0)
    return {"killed": os.waitstatus_to_exitcode(status), **finish(config, folder)}


def signalled(config: Any, folder: Path, number: int, group: bool) -> dict[str, Any]:
    """A run that gets a signal from outside in the middle of training, and the next start."""
    reached = folder.with_name(folder.name + ".reached")

    def slow(step: int) -> None:
        if step == 9:
            reached.touch()
        if step >= 9:
            time.sleep(0.05)

    process = child(config, folder, lambda: Watcher(at_step=slow))
    while not reached.exists():
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process, number)
    start = time.monotonic()
    _, status = os.waitpid(process, 0)
    return {
        "killed": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - start,
        **finish(config, folder),
    }


def killed_at_random(config: Any, folder: Path, draw: random.Random, kills: int, seconds: float) -> dict[str, Any]:
    """A run that is killed from outside again and again, and the last start."""
    killed = []
    for _ in range(kills):
        process = child(config, folder, lambda: None)
        time.sleep(draw.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        killed.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    return {"killed": killed, **finish(config, folder)}


def breaks() -> dict[str, Break]:
    """Where runs kill themselves."""
    # A save flushes its files, the manifest, the folder and the parent. The first evaluation writes the best weights
    # (one file, calls 1-4), then metrics.csv (5) and the checkpoint (state and tensors, calls 6-10).
    return {
        "in the first step": at_step(1),
        "mid-epoch": at_step(10),
        "at an epoch's edge, before its evaluation": at_step(14),
        "at an epoch's edge, before its checkpoint": at_evaluation(14),
        "at the last step": at_step(21),
        "writing the first best weights": at_call(checkpoints, "save_file", 1),
        "behind the tensors of the first checkpoint": at_call(checkpoints, "save_file", 2, after=True),
        "before the manifest": at_call(checkpoints, "flush_to_disk", 7, after=True),
        "behind the manifest": at_call(checkpoints, "flush_to_disk", 8, after=True),
        "before the rename": at_call(checkpoints, "flush_to_disk", 9, after=True),
        "behind the rename": at_call(checkpoints, "flush_to_disk", 10),
        "writing the second checkpoint": at_call(checkpoints, "save_file", 4, after=True),
        "removing old checkpoints": at_call(checkpoints, "remove_folder", 1),
        "having removed one": at_call(checkpoints, "remove_folder", 1, after=True),
    }


def main(folder: Path, matrix: str) -> dict[str, Any]:
    """Every scenario's outcome by its name."""
    draw = random.Random(folder.name)
    trainer = {"keep_checkpoints": 1}
    plain, workers = experiment(trainer=trainer), experiment(trainer=trainer, data={"num_workers": 2})
    every = experiment(trainer={**trainer, "checkpoint_every": 1})
    found: dict[str, Any] = {}
    loop.POINTS = 5  # training losses are means over several steps, which a resumed run must go on with
    paths = (folder / str(number) for number in range(1_000_000))
    start = time.monotonic()
    found["whole"] = finish(plain, make(next(paths)))
    seconds = time.monotonic() - start
    found["whole, saved at every step"] = finish(every, make(next(paths)))
    for name, prepare in breaks().items():
        found[name] = interrupted(plain, make(next(paths)), prepare)
    for step in (10, 14):
        found[f"step {step}, two loader workers"] = interrupted(workers, make(next(paths)), at_step(step))
    for number, sent in (("SIGTERM", signal.SIGTERM), ("SIGINT", signal.SIGINT)):
        found[number] = signalled(plain, make(next(paths)), sent, group=False)
        found[f"{number} to the group, two loader workers"] = signalled(workers, make(next(paths)), sent, group=True)
    for number in range(40 if matrix == "full" else 2):
        config = every if number % 2 else plain
        found[f"random {number}"] = killed_at_random(config, make(next(paths)), draw, kills=5, seconds=seconds)
    return found | whole_runs(folder)


# ------------------------------------------------------------------------------------- whole runs, through `train`


def whole_runs(folder: Path) -> dict[str, Any]:
    """Runs on a table, killed in every phase; each outcome is that of the next start with the same config."""
    found = {"run": run_again(folder, make(folder / "run"), None)}
    for number, (name, prepare) in enumerate(phases().items()):
        found[f"run: {name}"] = run_again(folder, make(folder / f"run{number}"), prepare)
    return found


def phases() -> dict[str, Break]:
    """Where whole runs kill themselves."""
    return {
        "rows are read": at_call(run_module, "assemble", 1, after=True),
        "config is written": at_call(run_module.RunFolder, "write_config", 1, after=True),
        "mid-epoch": at_call(run_module.Console, "step", 8),
        "in a save": at_call(checkpoints, "save_file", 4, after=True),
        "trained": at_call(run_module, "evaluate", 1),
        "predictions": at_call(run_module, "write_predictions", 1, after=True),
        "in the bundle": at_call(bundle, "linked", 1, after=True),
        "bundle": at_call(bundle, "write_bundle", 1, after=True),
        "result": at_call(run_module, "write_json", 1, after=True),
        "report": at_call(report, "write_report", 1),
    }


def run_again(tables: Path, folder: Path, prepare: Break | None) -> dict[str, Any]:
    """Start a run that kills itself (if `prepare` says where), start it again, and tell what it left."""
    config = table_experiment(tables, run={"dir": str(folder)})

    def work() -> None:
        if prepare is not None and not (folder.with_suffix(".killed")).exists():
            folder.with_suffix(".killed").touch()
            prepare()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        run_module.train(config, finish=lambda path: report.write_report(path))

    codes = [os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) for _ in range(1 if prepare is None else 2)]
    summary = hashlib.sha256()
    for name in ("metrics.csv", "predictions/validation.csv", "predictions/test.csv", "bundle/model.safetensors"):
        summary.update((folder / name).read_bytes())
    result = json.loads((folder / "result.json").read_text())
    summary.update(repr(sorted((key, repr(value)) for key, value in result.items() if key != "run_dir")).encode())
    return {
        "killed": codes[0],
        "code": codes[-1],
        "digest": summary.hexdigest(),
        "first_step": None,
        "leftover": sorted(path.name for path in folder.rglob(".partial*")),
        "report": (folder / "report" / "index.html").exists(),
        "status": json.loads((folder / "manifest.json").read_text())["status"],
    }


def make(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2]), indent=1))
