"""The jobs of a sweep: each in its own process, none of which can take the others down; where is up to the engine.

A sweep is a folder: ``jobs/N.json`` (status of job N, written whole or not at all), ``jobs/N.log`` (what it printed)
and ``N/`` (its run folder). Jobs are known by their overrides: the same sweep again repeats no finished job, continues
with stopped and failed ones, and may have more jobs than before.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import IO

from eir_seq import plugins
from eir_seq.cache.owners import is_leftover, temporary_name
from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.commands.engines.processes import Processes
from eir_seq.errors import Fault, UserError
from eir_seq.files import within
from eir_seq.inference.jobs import JOBS, Job, Status, read_jobs
from eir_seq.machine import cannot_write, say, writing
from eir_seq.training.redaction import redact, redact_words

SWEEP_VARIABLE = "EIR_SEQ_SWEEP"
"""Environment variable that tells a job the id of its sweep."""
_POLL_SECONDS = 0.05


def say_redacted(line: str) -> None:
    """Print a line without secrets."""
    say(str(redact(line)), sys.stdout)


class Sweep:
    """A folder of jobs.

    Args:
        folder: made if it does not exist.
        command: from the overrides of a job and its run folder to the words of its command line.
        n_jobs: how many run at once on this machine, if there is no `engine`.
        engine: what runs the jobs.
        say: prints a line.
        group: what trackers group the runs by; by default `id`.
    """

    def __init__(
        self,
        folder: Path,
        command: Callable[[Sequence[str], Path], Sequence[str]],
        *,
        n_jobs: int = 1,
        engine: Engine | None = None,
        say: Callable[[str], object] = say_redacted,
        group: str | None = None,
    ) -> None:
        self.folder = folder
        self._group = group
        self.command = command
        self._engine = engine or Processes(n_jobs)
        self._say = say
        self._signal: int | None = None
        self.running: dict[int, tuple[Task, float]] = {}
        """The process of each job that runs, and when it was started."""

    @property
    def id(self) -> str:
        """What the runs of this sweep are grouped by: what it was given, or the last two parts of its path."""
        return self._group or "-".join(self.folder.absolute().parts[-2:])

    @property
    def stopped_by(self) -> int | None:
        """The signal that ended the sweep early."""
        return self._signal

    def run_dir(self, job: Job) -> Path:
        """The run folder of a job."""
        return self.folder / str(job.number)

    def run(self, jobs: Iterable[Sequence[str]]) -> list[Job]:
        """Run jobs, given by their overrides, and return how each ended; finished ones are not run again.

        Raises:
            UserError: another process works on this sweep, or the folder cannot be written.
        OSError: a record cannot be written (disk full); jobs that run save and end.
        """
        self.make_folder("hydra.sweep.dir")
        try:
            lock = (self.folder / JOBS / ".lock").open("w")
        except OSError as error:
            raise cannot_write(self.folder, error, "hydra.sweep.dir") from None
        with self._locked(lock), self.signals_passed_on():
            planned = self._numbered(jobs)
            for job in planned:
                self.write(job)
            try:
                return self._run(planned)
            finally:  # nothing runs, unless a record could not be written
                self.end_running()

    def end_running(self) -> None:
        """Have what still runs save its state, and wait for it."""
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            process.wait()

    def make_folder(self, place: str) -> None:
        """Make the folder, which the config key `place` names.

        Raises:
            UserError: it cannot be written, or links lead out of it.
        """
        try:
            (self.folder / JOBS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error, place) from None
        for left in (*self.folder.glob(".*.tmp"), *(self.folder / JOBS).glob(".*.tmp")):
            if is_leftover(left):  # of a process that was killed
                left.unlink(missing_ok=True)
        if faults := [
            Fault(place, f"{path} is a link that leads out of the sweep's folder")
            for path in sorted((self.folder / JOBS).iterdir())
            if path.is_symlink() and not within(path, self.folder)
        ]:
            raise UserError(*faults)

    def _run(self, planned: list[Job]) -> list[Job]:
        jobs = {job.number: job for job in planned}
        waiting = [job for job in planned if job.status != "done"]
        if done := len(planned) - len(waiting):
            self._say(f"{done} of {len(planned)} jobs are done already")
        running, differing = self.running, _differing(planned)
        for job in list(waiting):  # of a sweep that was killed while its jobs stayed in the queue of a cluster
            if (task := self._engine.running(self.log(job))) is not None:
                waiting.remove(job)
                running[job.number] = task, time.monotonic()
        while running or (waiting and self._signal is None):
            while (free := self._free(len(waiting))) and self._signal is None:
                batch, waiting = waiting[:free], waiting[free:]
                for job, task in zip(batch, self.start(*batch), strict=True):
                    running[job.number] = task, time.monotonic()
                    jobs[job.number] = self._note(job, task, differing)
            for number, (task, begun) in list(running.items()):
                if jobs[number].status == "waiting" and task.begun:
                    running[number] = task, (begun := time.monotonic())
                    jobs[number] = self._note(jobs[number], task, differing)
                if (code := task.poll()) is not None:
                    del running[number]
                    ended = self.ended(jobs[number], code, time.monotonic() - begun, task.reason)
                    jobs[number] = self.write(ended)
                    tail = f": {ended.message}" if ended.message and ended.status != "done" else ""
                    self._say(f"job {number} {ended.status} after {ended.seconds:.0f} s{tail}")
            time.sleep(_POLL_SECONDS)
        return [jobs[job.number] for job in planned]

    def _free(self, waiting: int) -> int:
        """How many of the waiting jobs the engine takes now."""
        most = self._engine.at_once
        return waiting if most is None else min(waiting, most - len(self.running))

    def _note(self, job: Job, task: Task, differing: Mapping[int, Sequence[str]]) -> Job:
        """Record that a job has started, or that it waits for room."""
        if not task.begun:
            return self.write(replace(job, status="waiting", pid=None, exit_code=None, message=""))
        where = f" ({task.place})" if task.place else ""
        self._say(f"job {job.number} starts{where}: {' '.join(differing[job.number]) or '(no overrides)'}")
        return self.write(
            replace(job, status="running", pid=task.pid, place=task.place, started=now(), exit_code=None, message="")
        )

    def start(self, *jobs: Job) -> list[Task]:
        """Start the processes of jobs."""
        launches = []
        for job in jobs:
            command = tuple(self.command(job.overrides, self.run_dir(job)))
            with self.log(job).open("ab") as log:
                log.write(f"$ {shlex.join(redact_words(list(command)))}\n".encode())
            environment = {SWEEP_VARIABLE: self.id, "PYTHONUNBUFFERED": "1"}
            launches.append(Launch(command, self.log(job), environment))
        return self._engine.start(launches)

    def ended(self, job: Job, code: int, seconds: float, reason: str = "") -> Job:
        """A job whose process has ended, with what that says, or what its engine knows."""
        status: Status = "done" if code == 0 else "failed"
        if code != 0 and self._signal is not None:
            status = "stopped"
        message = reason
        if not message and code < 0:
            message = f"killed by {signal.Signals(-code).name}"
        elif not message and code != 0:
            message = last_line(self.log(job))
        return replace(job, status=status, exit_code=code, seconds=round(seconds, 1), message=message, pid=None)

    def _numbered(self, jobs: Iterable[Sequence[str]]) -> list[Job]:
        known = {job.overrides: job for job in read_jobs(self.folder)}
        unused = max((job.number for job in known.values()), default=-1) + 1
        planned = []
        for overrides in dict.fromkeys(map(tuple, jobs)):
            job = known.get(tuple(redact_words(list(overrides))))
            if job is None:
                job = Job(unused, overrides)
                unused += 1
            else:
                job = replace(job, overrides=overrides)
                if job.status != "done":
                    job = replace(job, status="waiting", pid=None)
            planned.append(job)
        return planned

    def write(self, job: Job) -> Job:
        """Write the status of a job."""
        path = self.folder / JOBS / f"{job.number}.json"
        partial = path.with_name(temporary_name(path.name))
        content = asdict(job) | {"overrides": redact_words(list(job.overrides))}
        with writing(path, partial):
            partial.write_text(json.dumps(redact(content), indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
        return job

    def log(self, job: Job) -> Path:
        """What a job printed."""
        return self.folder / JOBS / f"{job.number}.log"

    @contextmanager
    def _locked(self, lock: IO[str]) -> Iterator[None]:
        """Only one process works on a sweep; the kernel frees the lock however that process ends."""
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another process works on the sweep in {self.folder}"
                raise UserError(Fault("hydra.sweep.dir", message)) from None
            yield

    @contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        """SIGINT and SIGTERM reach the running jobs, which save and end; nothing new is started."""

        def pass_on(number: int, _frame: FrameType | None) -> None:
            again = self._signal is not None
            self._signal = number
            for task, _ in list(self.running.values()):
                if task.poll() is None:
                    task.send_signal(signal.SIGKILL if again else number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def last_line(log: Path, limit: int = 200) -> str:
    """The last line with text in a log file that says more than how many faults are not listed."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    text = next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith("... and ")), "")
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _differing(jobs: Sequence[Job]) -> dict[int, list[str]]:
    """For each job its overrides that not all jobs share, without Hydra's plus signs and secrets."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return {
        job.number: redact_words([word.lstrip("+") for word in job.overrides if word not in shared]) for job in jobs
    }


def job_command(overrides: Sequence[str], run_dir: Path) -> list[str]:
    """The command line of one job: this program's `train` in a fresh interpreter."""
    text = str(run_dir)
    if not re.fullmatch(r"[\w./-]+", text):
        # Hydra's quotes: a backslash stands for itself unless a quote follows.
        text = "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"
    modules = [f"--plugins={','.join(plugins.loaded())}"] if plugins.loaded() else []
    return [sys.executable, "-m", "eir_seq", "train", *modules, *overrides, f"run.dir={text}"]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
