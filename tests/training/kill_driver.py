"""Stops training processes and starts them again: ``python -m tests.training.kill_driver FOLDER``, JSON out.

Importing Lightning takes seconds, so this process imports all of it once, computes nothing itself (a child of a
process with OpenMP threads could hang), and forks one child per start of a run. `tests.campaign` kills whole runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from eir_seq.training import loop
from tests.training.harness import Watcher, experiment, outcome, run


def child(config: Any, folder: Path, watcher: Watcher) -> int:
    """Start the fake run in a child process that leads a group of its own, and give its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        ended = run(config, folder, watcher)
        (folder / "digest").write_text(digest(folder, ended))
        (folder / "steps").write_text(json.dumps(watcher.steps))
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def digest(folder: Path, ended: Any) -> str:
    """A hash of all that must not depend on interruptions."""
    state, weights, best, metrics = outcome(folder, ended)
    summary = hashlib.sha256(repr(state).encode() + metrics)
    for name, value in [*weights.items(), *(best or {}).items()]:
        summary.update(name.encode() + value.numpy().tobytes())
    return summary.hexdigest()


def finish(config: Any, folder: Path) -> dict[str, Any]:
    """Start the run again, to its end."""
    _, status = os.waitpid(child(config, folder, Watcher()), 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "digest": (folder / "digest").read_text() if (folder / "digest").exists() else None,
        "first_step": min(json.loads((folder / "steps").read_text()), default=None) if status == 0 else None,
        "leftover": sorted(path.name for path in (folder / "checkpoints").glob(".*")),
    }


def signalled(config: Any, folder: Path, number: int) -> dict[str, Any]:
    """A run whose whole group gets a signal in the middle of training, and the next start."""
    reached = folder.with_name(folder.name + ".reached")

    def slow(step: int) -> None:
        if step == 9:
            reached.touch()
        if step >= 9:
            time.sleep(0.05)

    process = child(config, folder, Watcher(at_step=slow))
    while not reached.exists():
        time.sleep(0.01)
    os.killpg(process, number)
    start = time.monotonic()
    _, status = os.waitpid(process, 0)
    return {
        "killed": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - start,
        **finish(config, folder),
    }


def main(folder: Path) -> dict[str, Any]:
    """Every scenario's outcome by its name."""
    loop.POINTS = 5  # training losses are means over several steps, which a resumed run must go on with
    config = experiment(data={"num_workers": 2})
    found: dict[str, Any] = {"whole": finish(experiment(), make(folder / "whole"))}
    for sent in (signal.SIGTERM, signal.SIGINT):
        found[sent.name] = signalled(config, make(folder / sent.name), sent)
    return found


def make(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
