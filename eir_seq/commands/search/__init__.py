"""``sweep``: a search over values of config keys, each trial in its own process.

`study` shares the trials among workers, `worker` runs them, `trial` is one of their processes, `engines` chooses where,
`checks` looks at the space before the first one, `starts` reads earlier runs, and `results` writes what came out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import filter_overrides

from eir_seq import plugins
from eir_seq.commands.engines import Engine
from eir_seq.commands.search.checks import check_building, check_ends
from eir_seq.commands.search.engines import open_runner
from eir_seq.commands.search.objective import Objective, objectives_of
from eir_seq.commands.search.results import SWEEP, print_results, value_names, write_sweep, write_trials
from eir_seq.commands.search.starts import starting_points
from eir_seq.commands.search.study import Claim, Study
from eir_seq.commands.sweep import Sweep, job_command
from eir_seq.commands.train import parse_flags
from eir_seq.config.overrides import normalized
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.sweeps import SweepRequest, grid, read_sweep
from eir_seq.errors import EXIT_RUN_FAILED, Fault, UserError
from eir_seq.inference.compare import APART_FROM_SETTINGS
from eir_seq.inference.jobs import read_jobs
from eir_seq.machine import say
from eir_seq.randomness import generator
from eir_seq.training.redaction import redact, redact_words

MAX_TRIALS = 10_000
WORKER = (sys.executable, "-m", "eir_seq", "sweep")
_DEFAULT_TRIALS = 20
_OF_MACHINES = (*APART_FROM_SETTINGS, "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that workers of one study may set to different values."""
_HELP = """\
  python -m eir_seq sweep experiment=NAME sweep=SWEEP [sweep.KEY=VALUE ...] [GROUP=OPTION ...] [KEY=VALUE ...]

Searches for the best values of config keys. conf/sweep/SWEEP.yaml names them and how values are chosen; a word of the
command line with several values, such as optimizer.lr='tag(log,interval(1e-4,1e-2))' or seed=1,2,3, is searched, too.

  sweep.trials=20          trials in all
  sweep.sampler=tpe        random, grid, tpe, cmaes, gp
  sweep.pruner=hyperband   none, median, asha, hyperband: stops trials early that do badly
  sweep.n_jobs=2           trials at once
  sweep.engine=local       local (processes of this machine), ray, slurm
  sweep.timeout=3600       seconds per trial
  sweep.dir=DIR            the folder of the sweep: trials.csv, a run folder for each trial, jobs/N.log
  sweep.storage=URL        the study, if several machines work on it: postgresql://..., sqlite:///..., journal:///...
  sweep.start=[RUN,SWEEP]  settings to try first
  --dry-run                check the space (each end of each range is composed and built) and stop

The same command again continues the search; on another machine, with the same sweep.storage, it helps. All settings:
docs/guide/sweeps.md. For a plain grid, -m needs no extra packages (see `train --help`).
"""


def run(arguments: list[str]) -> int:
    """Search, and print what was found."""
    if "--help" in arguments or "-h" in arguments:
        print(_HELP)
        return 0
    dry = "--dry-run" in arguments
    flags = parse_flags([word for word in arguments if word != "--dry-run"])
    request = read_sweep(flags.overrides)
    composed, everything = check_ends(request)
    objectives = objectives_of(composed.config, request.config)
    search = Search(request, composed.config, objectives, flags.overrides)
    if dry:
        _build(everything)
        _print_space(request, search)
        return 0
    return search.run(everything)


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

    def run(self, everything: Sequence[Sequence[str]]) -> int:
        """Work on the study until there is nothing left to do; returns the exit code."""
        request = self.request
        folder = self._made_folder()
        with open_runner(self) as runner:
            study = self.study()
            if not study.exists():  # a space that cannot be built leaves none, so that it can be corrected
                _build(everything)
            if study.begin(self._setting()):
                _say(f"study {self.study_name}: {sum(t.state != 'running' for t in study.trials())} trials have ended")
            write_sweep(
                folder,
                {
                    "study": self.study_name,
                    "storage": request.config.storage,
                    "directions": dict(
                        zip(value_names(self.objectives), (x.direction for x in self.objectives), strict=True)
                    ),
                    "objectives": [item.name for item in self.objectives],
                    "overrides": redact_words(list(request.words)),
                    "space": self._setting()["space"],
                },
            )
            self.write(study)
            stopped_by = runner.run(study)
        self.write(study)
        trials = study.trials()
        print_results(folder, trials, request.space, self.objectives, request.words)
        if stopped_by is not None:
            return 128 + stopped_by
        return 0 if any(trial.state == "complete" for trial in trials) else EXIT_RUN_FAILED

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
        return Sweep(self.folder, job_command, engine=engine, say=_say, group=group)

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

    def _setting(self) -> dict[str, Any]:
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

    def _made_folder(self) -> Path:
        jobs = Sweep(self.folder, job_command)
        jobs.make_folder("sweep.dir")
        if not (self.folder / SWEEP).is_file() and read_jobs(self.folder):
            message = f"{self.folder} holds the jobs of another sweep; name another folder"
            raise UserError(Fault("sweep.dir", message))
        return self.folder


def _build(everything: Sequence[Sequence[str]]) -> None:
    begun = time.monotonic()
    check_building(everything)
    _say(f"{len(everything)} settings, one for each end of the space, were checked in {time.monotonic() - begun:.0f} s")


def _print_space(request: SweepRequest, search: Search) -> None:
    for item in request.space:
        shown = ", ".join(item.choices) or f"{item.text(item.low)} to {item.text(item.high)}"
        notes = [
            "logarithmic" if item.log else "",
            f"in steps of {item.text(item.step)}" if item.step else "",
            *(f"if {key} is {' or '.join(texts)}" for key, texts in item.when.items()),
        ]
        print(redact(f"{item.key}: {'; '.join(filter(None, [shown, *notes]))}"))
    goal = ", ".join(f"{item.direction} {item.name}" for item in search.objectives)
    first = f", {len(search.fixed)} of them given" if request.config.start else ""
    print(f"{goal}: {search.total} trials by {request.config.sampler}{first}")


def _say(line: str) -> None:
    say(str(redact(line)), sys.stdout)
