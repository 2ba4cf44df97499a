"""One worker of a study: it asks for trials, runs each in its own process, reads how they do, and tells the study."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from eir_seq.commands.search.objective import Objective
from eir_seq.commands.search.study import Claim, Study
from eir_seq.commands.search.trial import STATUS, Ended, TrialProcess
from eir_seq.commands.sweep import Sweep
from eir_seq.config.sweep_settings import SweepConfig
from eir_seq.errors import printable
from eir_seq.inference.jobs import Job
from eir_seq.training.redaction import redact_words

_POLL_SECONDS, _ASK_SECONDS = 0.1, 1.0


@dataclass
class _Running:
    """A trial whose process runs."""

    claim: Claim
    process: TrialProcess


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
                self._jobs.end_running()

    def _run(self) -> None:
        asked, beaten = -math.inf, time.monotonic()
        while True:
            stopping = self._jobs.stopped_by is not None
            while not stopping and len(self._running) < (self._config.n_jobs or 1):
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
                        running.process.stop("running")
            if not self._running and (stopping or not self._study.pending):
                return
            time.sleep(_POLL_SECONDS)

    def _start(self, claim: Claim) -> None:
        job = Job(claim.number, tuple(self._words(claim)))
        self._study.note_folder(claim, self._jobs.run_dir(job))
        process = TrialProcess(self._jobs, job, self._objectives, self._config.timeout, taken_over=claim.taken_over)
        self._running[job.number] = _Running(claim, process)
        self._say(line_of_start(process.job, claim.chosen, taken_over=claim.taken_over))

    def _look_at(self, running: _Running) -> None:
        ended = running.process.look()
        if ended is not None:
            self._end(running, ended)
        elif not running.process.stopping:
            self._report(running)
            if self._config.pruner != "none" and self._study.should_prune(running.claim):
                running.process.stop("pruned", pruned_at(self._config.pruner, running.claim))

    def _report(self, running: _Running) -> None:
        """Tell the study what a trial has measured since the last look."""
        values = running.process.measured()
        for step, value in enumerate(values[running.claim.reported :], running.claim.reported + 1):
            self._study.report(running.claim, step, value)

    def _end(self, running: _Running, ended: Ended) -> None:
        claim, job = running.claim, ended.job
        del self._running[job.number]
        if ended.state == "running" and not running.process.stopping:
            self._jobs.write(job)
            self._study.release(claim)
            self._say(f"trial {job.number} stopped after {job.seconds:.0f} s")
            return
        if job.exit_code == 0:
            self._report(running)
        self._jobs.write(replace(job, status=STATUS.get(ended.state, "stopped"), message=ended.message))
        if ended.state == "running" or not self._study.finish(claim, ended.state, ended.values, ended.message):
            self._say(f"trial {job.number} belongs to another worker")
            return
        self._say(line_of_end(job.number, ended.state, job.seconds, ended.values, ended.message))
        self._finished()


def pruned_at(pruner: str, claim: Claim) -> str:
    """What is said of a trial that a pruner stops."""
    return f"stopped by {pruner} at evaluation {claim.reported}"


def line_of_start(job: Job, keys: Container[str], *, taken_over: bool = False) -> str:
    """What is said when a trial starts: the values of the keys that are searched, and where it runs."""
    words = [word.lstrip("+") for word in job.overrides]
    values = redact_words([word for word in words if word.partition("=")[0] in keys])
    where = f" ({job.place})" if job.place else ""
    return f"trial {job.number} {'continues' if taken_over else 'starts'}{where}: {' '.join(values)}"


def line_of_end(number: int, state: str, seconds: float | None, values: Sequence[float], message: str) -> str:
    """What is said when a trial has ended."""
    shown = ", ".join(f"{value:.6g}" for value in values)
    tail = f": {message or shown}" if message or shown else ""
    return printable(f"trial {number} {state}{'' if seconds is None else f' after {seconds:.0f} s'}{tail}")
