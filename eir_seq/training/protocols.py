"""What training asks of the data and of the console."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from eir_seq.training.evaluation import Batch
from eir_seq.training.metrics_file import Measurement


class Position(Protocol):
    """The part of the data module that the loop steers."""

    def set_position(self, epoch: int, batches_done: int) -> None:
        """The next training batches are those of `epoch` behind the first `batches_done`."""
        ...

    def costliest_batches(
        self, epoch: int, batches_done: int, batches: int, beyond: Sequence[int]
    ) -> tuple[Batch | None, Batch | None]:
        """Of so many training batches from a position on, and of those of an evaluation, the ones for most memory."""
        ...

    def statistics_batches(self) -> Iterable[Batch]:
        """Batches of training rows that do not depend on the position, for the statistics of batch norms."""
        ...


class Data(Position, Protocol):
    """What training asks of a data module."""

    @property
    def batches_per_epoch(self) -> int:
        """Training batches, the same number in every epoch."""
        ...

    def train_dataloader(self) -> Any:
        """The training batches from the position on."""
        ...

    def val_dataloader(self) -> Any:
        """The validation batches."""
        ...


class Progress(Protocol):
    """Where the loop reports to the person who watches."""

    def say(self, text: str) -> None:
        """A line."""
        ...

    def step(self, step: int, total: int, epoch: int, loss: Callable[[], float | None]) -> None:
        """A step was done."""
        ...

    def evaluated(self, measurements: Sequence[Measurement], best: bool) -> None:
        """An evaluation was done."""
        ...
