"""Sweeps and searches are killed, or one of their processes is, and started again with the same command."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.campaign import killing
from tests.campaign.case import Case
from tests.campaign.killing import COMMAND, Files, Scenario, different, left, run, whole
from tests.campaign.tracing import Kill, Traced

TITLE = "kills of a sweep of 2 jobs, and of a search with 3 trials: all processes, the worker, a job or a trial"
WANTED = (
    "the same command ends with the same bits, and repeats nothing that was finished; of a search that was not killed "
    "itself at most one trial is lost"
)

SWEEP = ("-m", *COMMAND, "seed=1,2", "hydra.sweep.dir=sweep")
SEARCH = (
    "sweep", *COMMAND, "optimizer.lr=tag(log,interval(1e-3,1e-1))", "sweep.trials=3", "sweep.dir=search",
    "trainer.max_epochs=1",
)  # fmt: skip


def quick(_: Path | None = None) -> None:
    """In a worker's process: look at its trials more often, and do not build the ends of the space."""
    from eir_seq.commands import search
    from eir_seq.commands.search import study, trial, worker

    search.check_building = lambda _: None
    worker._POLL_SECONDS = trial._POLL_SECONDS = 0.02
    worker._ASK_SECONDS, study.SETTLE_SECONDS = 0.1, 0.05


SCENARIOS = (
    Scenario("sweep", SWEEP, within=6, one=20),
    Scenario("search", SEARCH, each=4, always=("search/jobs/", "search/study", "search/trials", "search/sweep"),
             within=30, one=40, prepare=quick),
)  # fmt: skip


def cases(seed: int, share: float) -> Sequence[Case]:
    """A sample of the points of both."""
    scenarios = SCENARIOS if find_spec("optuna") else SCENARIOS[:1]
    return killing.cases(scenarios, seed, share, continued)


def continued(scenario: Scenario, kill: Kill, ended: Traced, folder: Path) -> str | None:
    """Start the command again, and compare what it leaves."""
    finished = _stamps(folder)
    again = run(scenario.words, folder, scenario.light)
    repeated = [name for name, stamp in finished.items() if _stamps(folder).get(name) != stamp]
    if wrong := again.fault([0]):
        return wrong
    if repeated:
        return f"trained again: {', '.join(repeated)}"
    found, wanted = left(folder), whole(scenario).left
    if scenario.words == SEARCH and not ended.main:  # the worker recorded that a trial had failed
        failed = _failed(found)
        if len(failed) > 1:
            return f"{len(failed)} trials were lost"
        found, wanted = (_without(files, failed) for files in (found, wanted))
    return different(found, wanted)


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells the results of finished runs from others of the same contents."""
    found = {path: path.stat() for path in folder.glob("*/*/result.json")}
    return {path.parent.name: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def _failed(files: Files) -> set[str]:
    """The numbers of the trials that have no value."""
    rows = list(csv.DictReader(files["search/trials.csv"].decode().splitlines()))
    return {row["number"] for row in rows if row["state"] != "complete"}


def _without(files: Files, trials: set[str]) -> Files:
    """What is left of the other trials."""
    kept = {name: content for name, content in files.items() if name.split("/")[1:2] != [*trials][:1]}
    for number in trials:
        pattern = rf"^{number},[^\n]*\n".encode()
        kept["search/trials.csv"] = re.sub(pattern, b"", kept["search/trials.csv"], flags=re.MULTILINE)
    return kept
