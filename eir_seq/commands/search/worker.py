"""One worker of a study: it asks for trials, runs each in its own process, reads how they do, and tells the study."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eir_seq.commands.search.objective import Objective, evaluations, values_of
from eir_seq.commands.search.study import Claim, State, Study
from eir_seq.commands.sweep import Sweep, now
from eir_seq.config.sweeps import SweepConfig
from eir_seq.errors import printable
from eir_seq.files import read_json, read_small
from eir_seq.inference.jobs import JOBS, Job, Status
from eir_seq.training.redaction import redact_words

GRACE_SECONDS = 60.0
"""How long a trial that is to stop may take to save its state."""
_POLL_SECONDS, _ASK_SECONDS = 0.1, 1.0
_OUT_OF_MEMORY = "killed by SIGKILL (by the system, if memory ran out)"
_STATUS: dict[State, Status] = {"complete": "done", "pruned": "pruned", "failed": "failed", "timeout": "timeout"}


@dataclass
class _Running:
    """A trial whose process runs.

    Attributes:
        ending: why it is being stopped.
        stopped: when it was asked to.
    """

    claim: Claim
    job: Job
    begun: float
    size: int = -1
    ending: State | None = None
    stopped: float = 0.0


class Worker:
    """Runs trials until there are none left.

    Args:
        study: which trials there are to run.
        jobs: starts processes, keeps their status and what they print, and passes signals on.
        words: from the values of a trial to the words of its command line.
        objectives: what is read of each run.
        finished: called when a trial has ended.
        say: prints a line.
    """

    def __init__(
        self,
        study: Study,
        jobs: Sweep,
        words: Callable[[Claim], Sequence[str]],
        objectives: Sequence[Objective],
        config: SweepConfig,
        *,
        finished: Callable[[], object],
        say: Callable[[str], object],
    ) -> None:
        self._study, self._jobs, self._words, self._objectives = study, jobs, words, objectives
        self._config, self._finished, self._say = config, finished, say
        self._running: dict[int, _Running] = {}

    def run(self) -> None:
        """Run trials until the study has no more for this worker, or a signal comes."""
        with self._jobs.signals_passed_on():
            try:
                self._run()
            finally:  # nothing runs, unless the storage or the disk failed
                for process, _ in self._jobs.running.values():
                    process.terminate()
                for process, _ in self._jobs.running.values():
                    process.wait()

    def _run(self) -> None:
        asked, beaten = -math.inf, time.monotonic()
        while True:
            stopping = self._jobs.stopped_by is not None
            while not stopping and len(self._running) < self._config.n_jobs:
                if time.monotonic() - asked < _ASK_SECONDS:
                    break
                claim = self._study.claim()
                if claim is None:
                    asked = time.monotonic()
                    break
                self._start(claim)
                stopping = self._jobs.stopped_by is not None
            for running in list(self._running.values()):
                self._look_at(running)
            if time.monotonic() - beaten >= self._config.heartbeat:
                beaten = time.monotonic()
                for running in list(self._running.values()):
                    if not self._study.beat(running.claim):
                        self._stop(running, "running")
            if not self._running and (stopping or not self._study.pending):
                return
            time.sleep(_POLL_SECONDS)

    def _start(self, claim: Claim) -> None:
        job = Job(claim.number, tuple(self._words(claim)))
        if claim.taken_over:
            end_orphan(self._jobs.folder, job.number)
        self._study.note_folder(claim, self._jobs.run_dir(job))
        process = self._jobs.start(job)
        begun = time.monotonic()
        self._jobs.running[job.number] = process, begun
        if self._jobs.stopped_by is not None:  # the signal came before the process could get it
            process.terminate()
        job = self._jobs.write(replace(job, status="running", pid=process.pid, started=now()))
        self._running[job.number] = _Running(claim, job, begun)
        words = [word.lstrip("+") for word in job.overrides]
        values = redact_words([word for word in words if word.partition("=")[0] in claim.chosen])
        self._say(f"trial {job.number} {'continues' if claim.taken_over else 'starts'}: {' '.join(values)}")

    def _look_at(self, running: _Running) -> None:
        process, _ = self._jobs.running[running.job.number]
        code = process.poll()
        if code is not None:
            self._end(running, code)
            return
        if running.ending is not None:
            if time.monotonic() - running.stopped > GRACE_SECONDS:
                process.kill()
            return
        if self._config.timeout is not None and time.monotonic() - running.begun > self._config.timeout:
            self._stop(running, "timeout")
            return
        self._report(running)
        if self._config.pruner != "none" and self._study.should_prune(running.claim):
            self._stop(running, "pruned")

    def _report(self, running: _Running) -> None:
        """Tell the study what a trial has measured since the last look."""
        if len(self._objectives) > 1:
            return
        path = self._jobs.run_dir(running.job) / "metrics.csv"
        with suppress(OSError, ValueError):  # there is none yet, or its last line is being written
            size = path.stat().st_size
            if size == running.size:
                return
            values = evaluations(path, self._objectives[0])
            running.size = size
            for step, value in enumerate(values[running.claim.reported :], running.claim.reported + 1):
                self._study.report(running.claim, step, value)

    def _stop(self, running: _Running, ending: State) -> None:
        process, _ = self._jobs.running[running.job.number]
        running.ending, running.stopped = ending, time.monotonic()
        process.send_signal(signal.SIGTERM)

    def _end(self, running: _Running, code: int) -> None:
        claim, number = running.claim, running.job.number
        del self._running[number], self._jobs.running[number]
        seconds = time.monotonic() - running.begun
        ended = self._jobs.ended(running.job, code, seconds)
        state, values, message = self._outcome(running, code, ended)
        if running.ending is None and code != 0 and self._jobs.stopped_by is not None:
            self._jobs.write(ended)
            self._study.release(claim)
            self._say(f"trial {number} stopped after {seconds:.0f} s")
            return
        if code == 0:
            self._report(running)
        self._jobs.write(replace(ended, status=_STATUS.get(state, "stopped"), message=message))
        if state == "running" or not self._study.finish(claim, state, values, message):
            self._say(f"trial {number} belongs to another worker")
            return
        shown = ", ".join(f"{value:.6g}" for value in values)
        tail = f": {message or shown}" if message or shown else ""
        self._say(printable(f"trial {number} {state} after {seconds:.0f} s{tail}"))
        self._finished()

    def _outcome(self, running: _Running, code: int, ended: Job) -> tuple[State, tuple[float, ...], str]:
        """How a trial ended: its state, the values of its objectives, and what there is to say."""
        if code == 0:
            values = values_of(self._jobs.run_dir(running.job), self._objectives)
            if isinstance(values, str):
                return "failed", (), values
            return "complete", values, ""
        if running.ending == "timeout":
            return "timeout", (), f"stopped after {self._config.timeout:g} s (sweep.timeout)"
        if running.ending == "pruned":
            return "pruned", (), f"stopped by {self._config.pruner} at evaluation {running.claim.reported}"
        if running.ending is not None:
            return running.ending, (), ""
        if code == -signal.SIGKILL:
            return "failed", (), _OUT_OF_MEMORY
        return "failed", (), ended.message


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
