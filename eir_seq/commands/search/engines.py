"""Where the trials of a search run: `sweep.engine`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eir_seq.commands.engines import Launch
from eir_seq.commands.engines.processes import Processes
from eir_seq.commands.engines.ray import require_ray
from eir_seq.commands.engines.slurm import Slurm
from eir_seq.commands.search.runner import LOOK_SECONDS, Runner, Watch, say_redacted
from eir_seq.commands.search.study import Study
from eir_seq.commands.search.worker import Worker
from eir_seq.commands.sweep import last_line
from eir_seq.inference.jobs import JOBS

if TYPE_CHECKING:
    from eir_seq.commands.search import Search


@contextmanager
def open_runner(search: Search) -> Iterator[Runner]:
    """The runner of `sweep.engine`.

    Raises:
        UserError: it cannot be used here.
    """
    runner: Runner
    if search.request.config.engine == "ray":
        require_ray("sweep.engine")
        from eir_seq.commands.search.ray_trials import RayRunner

        runner = RayRunner(search)
    elif search.request.config.engine == "slurm":
        runner = SlurmRunner(search)
    else:
        runner = LocalRunner(search)
    try:
        yield runner
    finally:
        runner.close()


class LocalRunner(Runner):
    """A worker in this process, whose trials are processes of this machine."""

    def __init__(self, search: Search) -> None:
        config = search.request.config
        engine = Processes(config.n_jobs or 1, config.gpus_per_trial, config.cpus_per_trial, place="sweep.")
        self._search, self._jobs = search, search.jobs(engine)

    def run(self, study: Study) -> int | None:
        """Run trials here."""
        search = self._search
        Worker(
            study,
            self._jobs,
            search.words,
            search.objectives,
            search.request.config,
            finished=lambda: search.write(study),
            say=say_redacted,
        ).run()
        return self._jobs.stopped_by


class SlurmRunner(Runner):
    """An array of SLURM's jobs, each a worker of the study that runs one trial after the other."""

    def __init__(self, search: Search) -> None:
        config = search.request.config
        gpus = None if config.gpus_per_trial is None else int(config.gpus_per_trial)
        self._count = min(config.n_jobs or 1, search.total)
        self._engine = Slurm(
            config.slurm,
            self._count,
            gpus,
            config.cpus_per_trial,
            name=search.study_name.replace("/", "-"),
            place="sweep.engine",
        )
        self._search, self._jobs = search, search.jobs()

    def run(self, study: Study) -> int | None:
        """Submit workers beside those that are in the queue from before, and tell of their trials."""
        watch, command = Watch(study, self._search), tuple(self._search.worker_command())
        logs = [self._search.folder.absolute() / JOBS / f"worker-{number}.log" for number in range(self._count)]
        found = {log: self._engine.running(log) for log in logs}
        missing = [log for log in logs if found[log] is None]
        with self._jobs.signals_passed_on():
            if missing and study.pending:
                started = self._engine.start([Launch(command, log, {"PYTHONUNBUFFERED": "1"}) for log in missing])
                found |= dict(zip(missing, started, strict=True))
            self._jobs.running = {n: (task, 0.0) for n, task in enumerate(map(found.get, logs)) if task is not None}
            say_redacted(f"{len(self._jobs.running)} workers in SLURM's queue; their output is in {logs[0].parent}")
            if self._jobs.stopped_by is not None:  # the signal came before
                self._jobs.end_running()
            while self._jobs.running:
                for number, (task, _) in list(self._jobs.running.items()):
                    if (code := task.poll()) is not None:
                        del self._jobs.running[number]
                        if code != 0 and self._jobs.stopped_by is None:
                            say_redacted(
                                f"worker {number} ended with exit code {code}: {task.reason or last_line(logs[number])}"
                            )
                watch.look()
                time.sleep(LOOK_SECONDS)
        return self._jobs.stopped_by
