"""The process of one trial: started, read and stopped, whatever worker or node it is on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eir_seq.commands.search.objective import Objective, evaluations, values_of
from eir_seq.commands.search.study import State
from eir_seq.commands.sweep import Sweep, now
from eir_seq.files import read_json, read_small
from eir_seq.inference.jobs import JOBS, Job, Status

GRACE_SECONDS = 60.0
"""How long a trial that is to stop may take to save its state."""
STATUS: dict[State, Status] = {"complete": "done", "pruned": "pruned", "failed": "failed", "timeout": "timeout"}
"""What a job is called whose trial has ended."""
_POLL_SECONDS = 0.1
_OUT_OF_MEMORY = "killed by SIGKILL (by the system, if memory ran out)"


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        state: running: it was stopped for another reason than its own, and may continue.
        values: of the objectives, if it is complete.
        job: its process, with its exit code.
    """

    state: State
    values: tuple[float, ...]
    message: str
    job: Job


class TrialProcess:
    """The process of a trial.

    Args:
        jobs: starts it, keeps its status and what it prints.
        objectives: what is read of the run.
        timeout: seconds after which it is stopped.
        taken_over: whether an earlier worker may have left a process, which is ended first.
    """

    def __init__(
        self,
        jobs: Sweep,
        job: Job,
        objectives: Sequence[Objective],
        timeout: float | None,
        *,
        taken_over: bool,
    ) -> None:
        self._jobs, self._objectives, self._timeout = jobs, objectives, timeout
        self._ending: State | None = None
        self._message = ""
        self._stopped, self._size = 0.0, -1
        if taken_over:
            end_orphan(jobs.folder, job.number)
        (self._task,) = jobs.start(job)
        self._begun = time.monotonic()
        jobs.running[job.number] = self._task, self._begun
        if jobs.stopped_by is not None:  # the signal came before the process could get it
            self._task.terminate()
        running = replace(job, status="running", pid=self._task.pid, started=now(), place=self._task.place)
        self.job = jobs.write(running)

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._ending is not None

    def stop(self, ending: State, message: str = "") -> None:
        """Have it save its state and end, with this state."""
        self._ending, self._message, self._stopped = ending, message, time.monotonic()
        self._task.terminate()

    def look(self) -> Ended | None:
        """How it ended; None while it runs."""
        code = self._task.poll()
        if code is None:
            self._stop_in_time()
            return None
        del self._jobs.running[self.job.number]
        job = self._jobs.ended(self.job, code, time.monotonic() - self._begun, self._task.reason)
        state, values, message = self._outcome(code, job)
        return Ended(state, values, message, job)

    def measured(self) -> list[float]:
        """The monitored values of all evaluations, if there are more than at the last call; else an empty list."""
        if len(self._objectives) > 1:
            return []
        path = self._jobs.run_dir(self.job) / "metrics.csv"
        with suppress(OSError, ValueError):  # there is none yet, or its last line is being written
            size = path.stat().st_size
            if size != self._size:
                values = evaluations(path, self._objectives[0])
                self._size = size
                return values
        return []

    def _stop_in_time(self) -> None:
        now = time.monotonic()
        if self._ending is not None:
            if now - self._stopped > GRACE_SECONDS:
                self._task.kill()
        elif self._timeout is not None and now - self._begun > self._timeout:
            self.stop("timeout", f"stopped after {self._timeout:g} s (sweep.timeout)")

    def _outcome(self, code: int, job: Job) -> tuple[State, tuple[float, ...], str]:
        if code == 0:
            values = values_of(self._jobs.run_dir(job), self._objectives)
            if isinstance(values, str):
                return "failed", (), values
            return "complete", values, ""
        if self._ending is not None:
            return self._ending, (), self._message
        if self._jobs.stopped_by is not None:
            return "running", (), job.message
        if code == -signal.SIGKILL:
            return "failed", (), _OUT_OF_MEMORY
        return "failed", (), job.message


def end_orphan(folder: Path, number: int) -> None:
    """End the process of a trial whose worker was killed: it saves its state, and the trial continues."""
    try:
        status: dict[str, Any] = read_json(folder / JOBS / f"{number}.json")
        pid, run = int(status["pid"]), str(folder / str(number))
    except (OSError, ValueError, TypeError, KeyError):
        return
    end = time.monotonic() + GRACE_SECONDS
    number_of_signal = signal.SIGTERM
    while _runs_in(pid, run):
        with suppress(OSError):
            os.kill(pid, number_of_signal)
        if time.monotonic() > end:
            number_of_signal = signal.SIGKILL
        time.sleep(_POLL_SECONDS)


def _runs_in(pid: int, run_dir: str) -> bool:
    """Whether a process of this machine lives whose command line ends with a run folder."""
    try:
        words = read_small(f"/proc/{pid}/cmdline").decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return False
    return words[-1].partition("=")[2].strip("'") == run_dir or words[-1] == run_dir
