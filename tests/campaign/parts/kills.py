"""Runs are killed at each of their operations on files, and started again with the same command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.campaign import killing, stores
from tests.campaign.case import Case
from tests.campaign.killing import COMMAND, Scenario, project

TITLE = (
    "kills before and within operations on files: a first run, one with loader workers, an extension, streamed runs, a "
    "run folder by URL"
)
WANTED = "the same command ends with the same bits of every file, and leaves nothing else"

EXTENDED = (*COMMAND, "trainer.max_epochs=3")
STREAMED = (*COMMAND, "data.train=shards", "data.streaming=true", "data.shuffle_buffer=8")
BY_URL = (*COMMAND, "run.dir=s3://bucket/run", "trainer.checkpoint_every=2")


def streamed_project(folder: Path) -> None:
    """The training rows in three files."""
    project(folder)
    names, *rows = (folder / "train.csv").read_text().splitlines(keepends=True)
    (folder / "shards").mkdir()
    for number in range(3):
        (folder / "shards" / f"{number}.csv").write_text("".join([names, *rows[8 * number : 8 * number + 8]]))


SCENARIOS = (
    Scenario("first run", COMMAND, within=20),
    Scenario("two loader workers", (*COMMAND, "data.num_workers=2"), one=12),
    Scenario("extension", EXTENDED, before=(COMMAND,)),
    Scenario("streamed", STREAMED, within=10, make=streamed_project),
    Scenario("streamed, two loader workers", (*STREAMED, "data.num_workers=2"), each=8, one=4, make=streamed_project),
    Scenario("run by URL", BY_URL, each=3, always=("store/",), prepare=stores.mount),
    Scenario("run by URL, elsewhere", BY_URL, each=15, lost=("cache", "tmp/cache"), prepare=stores.mount),
)


def cases(seed: int, share: float) -> Sequence[Case]:
    """A sample of the points of every scenario."""
    return killing.cases(SCENARIOS, seed, share)
