"""``-m``: Hydra makes the list of jobs, each of which then runs in its own process, here or on a cluster."""

from __future__ import annotations

import json
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from eir_seq.commands.engines import Engine
from eir_seq.commands.engines.processes import Processes
from eir_seq.commands.hydra_modes import through_hydra
from eir_seq.commands.preflight import preflight
from eir_seq.commands.sweep import Sweep, job_command
from eir_seq.config import engines
from eir_seq.config.compose import compose_in_hydra, hydra_ready
from eir_seq.config.errors import faults_of
from eir_seq.config.overrides import normalized, parse_overrides
from eir_seq.config.quoting import COMMAND_LINE
from eir_seq.config.strict import Strict
from eir_seq.errors import EXIT_RUN_FAILED, Fault, UserError, printable
from eir_seq.files import read_text
from eir_seq.inference.jobs import Job
from eir_seq.machine import cannot_write
from eir_seq.remote import is_url, shown
from eir_seq.training.redaction import redact, redact_words

MAX_JOBS = 10_000
PLACE = "hydra.launcher"


class JobLauncher(Launcher, ABC):
    """Hydra's launcher of our jobs, one class for each engine; `eir_seq.commands.sweep` does the work.

    It never raises for a job that failed, so that a sweeper that works in batches continues; `finished` remembers.
    """

    finished: ClassVar[tuple[Sweep, list[Job]] | None] = None
    OPTIONS: ClassVar[type[Strict]]

    def __init__(self, **options: Any) -> None:
        plain = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in options.items()
            if value is not None
        }
        try:
            self._options: Any = self.OPTIONS.model_validate(plain)
        except ValidationError as error:
            faults = faults_of(error, self.OPTIONS, plain)
            raise UserError(
                *(Fault(f"{PLACE}.{fault.place}".rstrip("."), fault.message, COMMAND_LINE) for fault in faults)
            ) from None
        self._folder = Path()
        self._name = ""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        """Remember where the sweep goes."""
        folder = str(config.hydra.sweep.dir)
        if is_url(folder):
            raise UserError(Fault("hydra.sweep.dir", f"{shown(folder)}: sweeps need a local folder", COMMAND_LINE))
        self._folder = Path(folder)
        self._name = str(config.hydra.runtime.choices.get("experiment") or "eir_seq").replace("/", "-")

    @abstractmethod
    def engine(self) -> Engine:
        """What runs the jobs.

        Raises:
            UserError: it cannot be used here.
        """

    def added(self) -> list[str]:
        """Overrides that each job gets from the launcher."""
        return []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:  # noqa: ARG002
        """Run a batch of jobs; the value of each is that of its monitored metric, for sweepers that look for the best.

        Jobs are numbered by the sweep folder, not by `initial_job_idx`, so that numbers stay when the grid grows.
        """
        _redact(self._folder / "multirun.yaml")
        engine = self.engine()
        sweep = Sweep(self._folder, job_command, engine=engine)
        try:
            jobs = sweep.run([[*filter_overrides(overrides), *self.added()] for overrides in job_overrides])
        finally:
            engine.close()
        before = JobLauncher.finished[1] if JobLauncher.finished is not None else []
        JobLauncher.finished = sweep, [*before, *jobs]
        if sweep.stopped_by is not None:
            raise SystemExit(128 + sweep.stopped_by)
        returns = []
        for job in jobs:
            value = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
            value.return_value = _monitored(sweep.run_dir(job))
            returns.append(value)
        return returns


class ProcessLauncher(JobLauncher):
    """``hydra/launcher=processes``."""

    OPTIONS = engines.ProcessLauncher

    def engine(self) -> Engine:
        """Processes of this machine."""
        return Processes(self._options.n_jobs, self._options.gpus_per_job, self._options.cpus_per_job)


class RayLauncher(JobLauncher):
    """``hydra/launcher=ray``."""

    OPTIONS = engines.RayLauncher

    def engine(self) -> Engine:
        """Nodes of a Ray cluster."""
        from eir_seq.commands.engines.ray import RayCluster

        options = self._options
        Sweep(self._folder, job_command).make_folder("hydra.sweep.dir")
        return RayCluster(
            options,
            self._folder,
            options.n_jobs,
            options.gpus_per_job,
            options.cpus_per_job,
            nodes=options.nodes_per_job,
        )

    def added(self) -> list[str]:
        """The number of machines of a training."""
        nodes = self._options.nodes_per_job
        return [f"++trainer.num_nodes={nodes}"] if nodes > 1 else []


class SlurmLauncher(JobLauncher):
    """``hydra/launcher=slurm``."""

    OPTIONS = engines.SlurmLauncher

    def engine(self) -> Engine:
        """Jobs of SLURM."""
        from eir_seq.commands.engines.slurm import Slurm

        options = self._options
        return Slurm(options, options.n_jobs, options.gpus_per_job, options.cpus_per_job, name=self._name)


def sweep(words: Sequence[str]) -> int:
    """Run a sweep and print how its jobs ended.

    Raises:
        UserError: a job would be at fault; nothing was started.
    """
    overrides = normalized(words)
    _validate(overrides)
    _register()
    JobLauncher.finished = None
    stopped: SystemExit | None = None
    try:
        through_hydra(["--multirun", *overrides], _never_called)
    except SystemExit as error:
        stopped = error
    except OSError as error:
        raise cannot_write("the sweep", error, "hydra.sweep.dir") from error
    if JobLauncher.finished is None:  # another launcher did it, or nothing was started
        return int(stopped.code or 0) if stopped is not None else 0
    done, jobs = JobLauncher.finished
    failed = [job for job in jobs if job.status != "done"]
    _print_table(done, jobs)
    if stopped is not None:
        return int(stopped.code or 1)
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed; their output is in {done.folder / 'jobs'}", file=sys.stderr)
        return EXIT_RUN_FAILED
    return 0


def _register() -> None:
    """Hydra takes launchers from packages below `hydra_plugins` only."""
    name = "hydra_plugins.eir_seq_launcher"
    module = types.ModuleType(name)
    sys.modules.setdefault("hydra_plugins", types.ModuleType("hydra_plugins"))
    sys.modules[name] = module
    for launcher in (ProcessLauncher, RayLauncher, SlurmLauncher):
        launcher.__module__ = name
        setattr(module, launcher.__name__, launcher)
        Plugins.instance().register(launcher)


def _validate(overrides: Sequence[str]) -> None:
    """Compose and validate the first job, and each further value of every axis with the first of the others."""
    parsed = parse_overrides(overrides)
    with hydra_ready():
        for override in parsed:
            override.config_loader = GlobalHydra.instance().config_loader()  # which knows what glob(*) stands for
        axes = {
            index: list(override.sweep_string_iterator())
            for index, override in enumerate(parsed)
            if override.is_discrete_sweep() and not override.is_hydra_override()
        }
    if not any(override.key_or_group == "hydra/sweeper" for override in parsed):
        intervals = [override for override in parsed if override.is_interval_sweep()]
        message = "an interval holds no values to run one by one; name them (1,2,3) or write range(FIRST,LAST,STEP)"
        if intervals:
            raise UserError(*(Fault(override.key_or_group, message, "command line") for override in intervals))
    _check_size(parsed, axes)
    fixed = [override for override in parsed if not override.is_hydra_override()]
    if any(override.key_or_group == "run.dir" for override in fixed):
        raise UserError(
            Fault("run.dir", "each job of a sweep has its own; hydra.sweep.dir=DIR names the sweep's", "command line")
        )
    first = {index: values[0] for index, values in axes.items()}
    trials = [first]
    trials += [{**first, index: value} for index, values in axes.items() for value in values[1:]]
    faults: list[Fault] = []
    with hydra_ready():
        for trial in trials:
            job = [
                f"{override.get_key_element()}={trial[index]}" if index in trial else str(override.input_line)
                for index, override in enumerate(parsed)
                if index in trial or not override.is_sweep_override()
            ]
            try:
                compose_in_hydra(job, preflight)
            except UserError as error:
                faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise UserError(*faults)


def _check_size(parsed: Sequence[Override], axes: dict[int, list[str]]) -> None:
    count = 1
    for index, values in axes.items():
        if not values:
            raise UserError(Fault(parsed[index].key_or_group, "an axis of the sweep without values", "command line"))
        count *= len(values)
    if count > MAX_JOBS:
        raise UserError(Fault("--multirun", f"the axes make {count} jobs; at most {MAX_JOBS} are run", "command line"))


def _redact(path: Path) -> None:
    """Take secrets out of the overrides that Hydra has written down."""
    with suppress(OSError, UnicodeDecodeError):
        path.write_text(str(redact(read_text(path))), encoding="utf-8")


def _monitored(run_dir: Path) -> float | None:
    try:
        result = json.loads(read_text(run_dir / "result.json"))
        value = result["monitor"]["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, float) else None


def _print_table(sweep: Sweep, jobs: Sequence[Job]) -> None:
    from rich.console import Console
    from rich.table import Table

    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    table = Table("job", "overrides", "status", "exit", "seconds", "monitored", box=None, pad_edge=False)
    for job in jobs:
        value = _monitored(sweep.run_dir(job))
        table.add_row(
            str(job.number),
            printable(" ".join(redact_words([word.lstrip("+") for word in job.overrides if word not in shared]))),
            printable(f"{job.status}{': ' + job.message if job.message else ''}"),
            "" if job.exit_code is None else str(job.exit_code),
            "" if job.seconds is None else f"{job.seconds:.0f}",
            "" if value is None else f"{value:.4f}",
        )
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table, markup=False)
    print(f"sweep: {sweep.folder}; compare with: python -m eir_seq runs compare {sweep.folder}", flush=True)


def _never_called(_config: DictConfig) -> Any:
    raise AssertionError("the launcher runs each job in its own process")
