"""Training on two processes: one or both are killed or stopped at operations on files, and the command starts again."""

from __future__ import annotations

from collections.abc import Sequence

from tests.campaign import killing
from tests.campaign.case import Case
from tests.campaign.killing import COMMAND, Scenario

TITLE = (
    "training on two processes, with copies and with shards of the weights (FSDP): SIGKILL to both, to one or to the "
    "other before operations on files, SIGTERM to one"
)
WANTED = "a survivor ends with code 3 and one line, SIGTERM with 143; the same command ends with the same bits"

TWO = (*COMMAND, "trainer.devices=2")
SCENARIOS = (
    Scenario("two ranks", TWO, within=10, one=60, others=60, terminated=30),
    Scenario("two ranks, FSDP", (*TWO, "trainer.strategy=fsdp"), within=10, one=60, others=60, terminated=30),
)


def cases(seed: int, share: float) -> Sequence[Case]:
    """A sample of the points of both."""
    return killing.cases(SCENARIOS, seed, share)
