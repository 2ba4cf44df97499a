"""A search as its command line declares it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import filter_overrides

from eir_seq import plugins
from eir_seq.commands.engines import Engine
from eir_seq.commands.search.objective import Objective
from eir_seq.commands.search.results import SWEEP, write_trials
from eir_seq.commands.search.starts import starting_points
from eir_seq.commands.search.study import JOURNAL, Claim, Study
from eir_seq.commands.sweep import Sweep, job_command, say_redacted
from eir_seq.config.overrides import normalized
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.sweep_space import grid
from eir_seq.config.sweeps import SweepRequest
from eir_seq.errors import Fault, UserError
from eir_seq.inference.compare import APART_FROM_SETTINGS
from eir_seq.inference.jobs import read_jobs
from eir_seq.randomness import generator
from eir_seq.remote import is_url, shown
from eir_seq.training.redaction import redact_words

MAX_TRIALS = 10_000
WORKER = (sys.executable, "-m", "eir_seq", "sweep")
_DEFAULT_TRIALS = 20
_OF_MACHINES = (*APART_FROM_SETTINGS, "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that workers of one study may set to different values."""


class Search:
    """A search as its command line declares it.

    Args:
        request: settings, space, and the words that all trials share.
        arguments: the command line that these are from.
        experiment: the first setting, as composed.
        objectives: what is optimized.

    Raises:
        UserError: a starting point is not in the space, or a grid is too large.
    """

    def __init__(
        self,
        request: SweepRequest,
        experiment: ExperimentConfig,
        objectives: Sequence[Objective],
        arguments: Sequence[str] = (),
    ) -> None:
        self.arguments = tuple(arguments)
        self.request, self.experiment, self.objectives = request, experiment, objectives
        name = request.name or "sweep"
        if is_url(request.config.dir):
            raise UserError(Fault("sweep.dir", f"{shown(str(request.config.dir))}: sweeps need a local folder"))
        self.folder = Path(request.config.dir or Path("sweeps") / experiment.name / name).expanduser()
        self.fixed: list[dict[str, Any]] = starting_points(request)
        total = request.config.trials or _DEFAULT_TRIALS
        if request.config.sampler == "grid":
            points = grid(request.space, MAX_TRIALS)
            order = generator(experiment.seed, "sweep", "grid").permutation(len(points))
            self.fixed += [point for index in order if (point := points[index]) not in self.fixed]
            total = min(request.config.trials or len(self.fixed), len(self.fixed))
        self.total = total
        self.study_name = request.config.study or f"{experiment.name}/{name}"

    def study(self) -> Study:
        """The study, as this process has it."""
        return Study(
            self.request.config,
            self.request.space,
            self.folder,
            self.study_name,
            [item.direction for item in self.objectives],
            seed=self.experiment.seed,
            total=self.total,
            fixed=self.fixed,
        )

    def jobs(self, engine: Engine | None = None) -> Sweep:
        """The processes of trials, run by an engine."""
        # Workers of one study may have folders of different names.
        group = self.study_name if self.request.config.storage is not None else None
        return Sweep(self.folder, job_command, engine=engine, say=say_redacted, group=group)

    def write(self, study: Study) -> None:
        """Write the table of trials."""
        write_trials(self.folder, study.trials(), self.request.space, self.objectives)

    def worker_command(self) -> list[str]:
        """The command line of a worker of this study, on this machine or another, that runs one trial at a time."""
        ours = ("sweep.engine=", "sweep.n_jobs=", "sweep.slurm.", "sweep.ray.", "sweep.dir=")
        words = [word for word in self.arguments if not word.startswith(ours)]
        modules = [f"--plugins={','.join(plugins.loaded())}"] if plugins.loaded() else []
        folder = f"sweep.dir={self.folder.absolute()}"
        return [*WORKER, *modules, *words, "sweep.engine=local", "sweep.n_jobs=1", folder]

    def words(self, claim: Claim) -> list[str]:
        """The overrides of a trial."""
        return list(filter_overrides(normalized([*self.request.words, *self.request.chosen(claim.chosen)])))

    def setting(self) -> dict[str, Any]:
        """What all workers of the study must agree on."""
        words = [word for word in self.request.words if not word.lstrip("+").startswith(_OF_MACHINES)]
        space = {
            item.key: {
                "values": list(item.choices) or [item.text(item.low), item.text(item.high)],
                "step": item.step,
                "log": item.log,
                "when": {key: list(texts) for key, texts in item.when.items()},
            }
            for item in self.request.space
        }
        return {
            "space": space,
            "overrides": redact_words(sorted(words)),
            "objectives": [f"{item.direction} {item.name}" for item in self.objectives],
        }

    def made_folder(self) -> Path:
        """The folder of the search, which is made.

        Raises:
            UserError: it cannot be made, or holds the jobs of another sweep.
        """
        jobs = Sweep(self.folder, job_command)
        jobs.make_folder("sweep.dir")
        if not any((self.folder / name).is_file() for name in (SWEEP, JOURNAL)) and read_jobs(self.folder):
            message = f"{self.folder} holds the jobs of another sweep; name another folder"
            raise UserError(Fault("sweep.dir", message))
        return self.folder
