"""What runs the trials of a search, and what is said of trials that run elsewhere."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from eir_seq.commands.search.study import Study
from eir_seq.commands.search.worker import line_of_end, line_of_start
from eir_seq.inference.jobs import read_jobs
from eir_seq.machine import say
from eir_seq.training.redaction import redact

if TYPE_CHECKING:
    from eir_seq.commands.search import Search

LOOK_SECONDS = 1.0
"""How often is looked at trials that run elsewhere."""


class Runner(ABC):
    """Runs the trials of a search.

    What is wrong with it is said when it is made, before the first trial.
    """

    @abstractmethod
    def run(self, study: Study) -> int | None:
        """Run trials until the study has no more; returns the signal that came before, if one did."""

    def close(self) -> None:  # noqa: B027
        """Let go of a cluster."""


class Watch:
    """Tells of the trials that others run, and writes their table."""

    def __init__(self, study: Study, search: Search) -> None:
        self._study, self._search = study, search
        self._keys = {item.key for item in search.request.space}
        self._begun: dict[int, str | None] = {}
        self._ended = {trial.number for trial in study.trials() if trial.state != "running"}

    def look(self) -> None:
        """Tell what has happened since the last look."""
        trials = self._study.trials()
        new = [trial for trial in trials if trial.number not in self._ended]
        if not new:
            return
        jobs = {job.number: job for job in read_jobs(self._search.folder)}
        for trial in new:
            job = jobs.get(trial.number)
            if job is not None and job.started and self._begun.get(trial.number) != job.started:
                again = trial.number in self._begun
                self._begun[trial.number] = job.started
                say_redacted(line_of_start(job, self._keys, taken_over=again))
            if trial.state != "running":
                self._ended.add(trial.number)
                seconds = job.seconds if job is not None else None
                say_redacted(line_of_end(trial.number, trial.state, seconds, trial.values, trial.message))
        if any(trial.state != "running" for trial in new):
            self._search.write(self._study)


def say_redacted(line: str) -> None:
    """Print a line without secrets."""
    say(str(redact(line)), sys.stdout)
