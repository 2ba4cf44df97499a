"""``sweep``: a search over values of config keys, each trial in its own process.

`search` is what the command line declares, `study` shares the trials among workers, `worker` runs them, `trial` is one
of their processes, `engines` chooses where,
`checks` looks at the space before the first one, `starts` reads earlier runs, and `results` writes what came out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from eir_seq.commands.search.checks import check_building, check_ends
from eir_seq.commands.search.engines import open_runner
from eir_seq.commands.search.objective import objectives_of
from eir_seq.commands.search.results import print_results, value_names, write_sweep
from eir_seq.commands.search.search import Search
from eir_seq.commands.sweep import say_redacted
from eir_seq.commands.train import parse_flags
from eir_seq.config.sweeps import SweepRequest, read_sweep
from eir_seq.errors import EXIT_RUN_FAILED
from eir_seq.training.redaction import redact, redact_words

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
    return run_search(search, everything)


def run_search(search: Search, everything: Sequence[Sequence[str]]) -> int:
    """Work on the study until there is nothing left to do; returns the exit code."""
    request = search.request
    folder = search.made_folder()
    with open_runner(search) as runner:
        study = search.study()
        if not study.exists():  # a space that cannot be built leaves none, so that it can be corrected
            _build(everything)
        if study.begin(search.setting()):
            say_redacted(
                f"study {search.study_name}: {sum(t.state != 'running' for t in study.trials())} trials have ended"
            )
        write_sweep(
            folder,
            {
                "study": search.study_name,
                "storage": request.config.storage,
                "directions": dict(
                    zip(value_names(search.objectives), (x.direction for x in search.objectives), strict=True)
                ),
                "objectives": [item.name for item in search.objectives],
                "overrides": redact_words(list(request.words)),
                "space": search.setting()["space"],
            },
        )
        search.write(study)
        stopped_by = runner.run(study)
    search.write(study)
    trials = study.trials()
    print_results(folder, trials, request.space, search.objectives, request.words)
    if stopped_by is not None:
        return 128 + stopped_by
    return 0 if any(trial.state == "complete" for trial in trials) else EXIT_RUN_FAILED


def _build(everything: Sequence[Sequence[str]]) -> None:
    begun = time.monotonic()
    check_building(everything)
    say_redacted(
        f"{len(everything)} settings, one for each end of the space, were checked in {time.monotonic() - begun:.0f} s"
    )


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
