"""SLURM by submitit: commands as one array of jobs, which save their state and are queued again when preempted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from eir_seq.cache.owners import temporary_name
from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.commands.engines.remote import HIDDEN, Remote
from eir_seq.config.engines import SlurmConfig
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.files import read_text
from eir_seq.training.redaction import redact_words

FOLDER = "slurm"
"""Where submitit keeps its files, beside the logs."""
_LOST = -signal.SIGKILL


class Slurm(Engine):
    """The engine of a cluster with SLURM.

    Args:
        config: of the jobs.
        at_once: how many run at once.
        gpus: of each job; None: as the cluster has it.
        cpus: of each job.
        name: of the jobs in the queue.
        place: the config key of the engine, for faults.
    """

    def __init__(
        self,
        config: SlurmConfig,
        at_once: int | None = None,
        gpus: int | None = None,
        cpus: int | None = None,
        *,
        name: str = "eir_seq",
        place: str = "hydra/launcher",
    ) -> None:
        check_slurm(config, place)
        self._config, self._gpus, self._cpus, self._name = config, gpus, cpus, name
        self._parallel = at_once
        self.at_once = None if config.cluster == "slurm" else at_once or os.cpu_count() or 1

    def start(self, launches: Sequence[Launch]) -> list[Task]:
        """Queue all as one array."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        folder = launches[0].log.parent.absolute() / FOLDER
        executor = {"slurm": submitit.SlurmExecutor, "local": submitit.LocalExecutor}[self._config.cluster](
            folder, max_num_timeout=self._config.max_timeouts
        )
        executor.update_parameters(**self._parameters())
        hidden, secrets = without_secrets(launches)
        for launch in launches:
            _state(launch.log).unlink(missing_ok=True)
        try:
            with _environment(secrets):  # which sbatch passes on, and keeps to itself
                jobs = executor.submit_array([Requeued(Remote(launch, {}), launch.log) for launch in hidden])
        except (OSError, subprocess.SubprocessError, FailedJobError, FailedSubmissionError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise RunFailed(f"SLURM does not take the jobs: {said[-1]}") from error
        tasks: list[Task] = []
        for launch, job in zip(launches, jobs, strict=True):
            _submitted(launch.log).write_text(json.dumps([self._config.cluster, job.job_id]), encoding="utf-8")
            tasks.append(_SlurmTask(job, launch.log, self._config.cluster))
        return tasks

    def running(self, log: Path) -> Task | None:
        """A job that is in the queue, or runs, though the process that submitted it has gone."""
        try:
            cluster, number = json.loads(read_text(_submitted(log)))
        except (OSError, ValueError, TypeError):
            return None
        if cluster != self._config.cluster or _exit_code(log) is not None:
            return None
        import submitit

        kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[cluster]
        task = _SlurmTask(kind(log.parent.absolute() / FOLDER, str(number)), log, cluster)
        return task if task.poll() is None else None

    def _parameters(self) -> dict[str, Any]:
        config = self._config
        given: dict[str, Any] = {"gpus_per_node": self._gpus}
        if config.cluster == "slurm":
            given |= {
                "job_name": self._name,
                "cpus_per_task": self._cpus,
                "mem_gb": config.mem_gb,
                "partition": config.partition,
                "account": config.account,
                "qos": config.qos,
                "constraint": config.constraint,
                "additional_parameters": config.extra or None,
                "array_parallelism": self._parallel,
            }
        return {
            "timeout_min": config.timeout_min,
            "signal_delay_s": config.grace_s,
            "tasks_per_node": 1,
            "setup": config.setup,
            **{key: value for key, value in given.items() if value is not None},
        }


class Requeued:
    """What submitit runs: a command that saves its state and ends before its job is queued again."""

    def __init__(self, remote: Remote, log: Path) -> None:
        self._remote, self._log = remote, log.absolute()

    def __call__(self) -> int:
        """Run the command; returns its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):  # submitit ignores SIGTERM
            signal.signal(number, lambda *_: self._remote.send_signal(signal.SIGTERM))
        _write_state(self._log, None)
        code = self._remote.run()
        _write_state(self._log, code)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit when the job is preempted or near its time limit: what to run when it starts again."""
        import submitit

        self._remote.end()
        return submitit.helpers.DelayedSubmission(self)


class _SlurmTask(Task):
    def __init__(self, job: Any, log: Path, cluster: str) -> None:
        self._job, self._log, self._cluster = job, log, cluster
        self._cancelled = False

    @property
    def place(self) -> str:
        node = _node(self._log)
        return f"job {self._job.job_id}{f' on {node}' if node else ''}"

    @property
    def begun(self) -> bool:
        return _node(self._log) is not None

    @property
    def reason(self) -> str:
        if _exit_code(self._log) is not None:
            return ""
        state = str(self._job.state).lower().replace("_", " ")
        return f"job {self._job.job_id} of {self._cluster} has ended ({state})"

    def poll(self) -> int | None:
        code = _exit_code(self._log)
        if code is None and self._is_gone():
            code = _exit_code(self._log)  # written meanwhile
            return _LOST if code is None else code
        return code

    def _is_gone(self) -> bool:
        if self._cluster == "slurm":
            return bool(self._job.done())
        process = getattr(self._job, "_process", None)
        if process is not None:  # ours: to be reaped
            return process.poll() is not None
        try:
            os.kill(int(self._job.job_id), 0)
        except OSError:
            return True
        return False

    def send_signal(self, number: int) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            if self._cluster == "local":  # its controller passes SIGTERM on, and ends all at SIGINT
                os.kill(int(self._job.job_id), signal.SIGINT if number == signal.SIGKILL else signal.SIGTERM)
            elif number == signal.SIGKILL or not self.begun:
                self._job.cancel(check=False)
            else:  # its command saves and ends by itself; `scancel` alone would leave it KillWait seconds
                subprocess.run(["scancel", "--signal=TERM", str(self._job.job_id)], check=False)  # noqa: S603, S607


def check_slurm(config: SlurmConfig, place: str) -> None:
    """Whether jobs can be submitted from here.

    Raises:
        UserError: a package or a command is missing.
    """
    if not is_installed("submitit"):
        raise UserError(Fault(place, missing_package("submitit", extra="slurm")))
    missing = [name for name in ("sbatch", "srun", "sacct") if shutil.which(name) is None]
    if config.cluster == "slurm" and missing:
        message = f"slurm needs {' and '.join(missing)} in PATH, as on a login node"
        raise UserError(Fault(place, f"{message}; cluster=local tries it out on this machine"))


def without_secrets(launches: Sequence[Launch]) -> tuple[list[Launch], dict[str, str]]:
    """Commands whose secret words are those of variables, as submitit writes what it runs to a file."""
    names: dict[str, str] = {}

    def shown(word: str) -> str:
        if redact_words([word]) == [word]:
            return word
        return HIDDEN + names.setdefault(word, f"EIR_SEQ_WORD_{len(names)}")

    hidden = [replace(launch, command=tuple(map(shown, launch.command))) for launch in launches]
    return hidden, {name: word for word, name in names.items()}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _submitted(log: Path) -> Path:
    return log.with_suffix(".submitted")


def _state(log: Path) -> Path:
    return log.with_suffix(".task")


def _write_state(log: Path, code: int | None) -> None:
    path = _state(log)
    partial = path.with_name(temporary_name(path.name))
    partial.write_text(json.dumps({"node": os.uname().nodename, "exit_code": code}), encoding="utf-8")
    partial.replace(path)


def _read_state(log: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(_state(log)))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _node(log: Path) -> str | None:
    return _read_state(log).get("node")


def _exit_code(log: Path) -> int | None:
    return _read_state(log).get("exit_code")
