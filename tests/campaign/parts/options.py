"""Options that are out of range or misspelled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.campaign.case import Case, command

TITLE = "options out of range"
WANTED = "exit code 2, one line per fault, nothing written"
SETTINGS = ("data.batch_size=0", "data.batch_size=eight", "trainer.max_epochs=-1", "trainer.threads=100000",
            "optimizer.lr=nan", "trainer.max_step=5", "model=foo", "seed=-1", "data.num_workers=1000000")  # fmt: skip


def cases(seed: int, share: float) -> Sequence[Case]:
    """One setting each."""
    chosen = Random(seed).sample(SETTINGS, max(1, round(len(SETTINGS) * share)))
    return [Case(setting, partial(refused, setting)) for setting in chosen]


def refused(setting: str, folder: Path) -> str | None:
    """Run the first experiment with the setting."""
    outcome = command(["experiment=imdb_longformer", setting], folder)
    wrong = outcome.fault([2])
    if wrong is None and list(folder.iterdir()):
        wrong = f"left {list(folder.iterdir())}"
    if wrong is None and len(outcome.err.splitlines()) > 3:
        wrong = "many lines: " + outcome.err
    return wrong
