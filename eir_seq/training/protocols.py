"""What training requires of the data and of the console."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from eir_seq.training.evaluation import Batch
from eir_seq.training.metrics_file import Measurement


class Position(Protocol):
    """The part of the data module that the loop steers."""

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = (0, 0)) -> None:
        """The next training batches are those of `epoch` after the first `batches_done`.

        `window`: the place in streamed rows whose batches are not counted, as the last batch has it.
        """
        ...

    def costliest_batches(
        self, epoch: int, batches_done: int, batches: int, beyond: Sequence[int]
    ) -> tuple[Batch | None, Batch | None]:
        """Of that many training batches from a position on, and of those of an evaluation, the ones for most memory."""
        ...

    def statistics_batches(self) -> Iterable[Batch]:
        """Batches of training rows that do not depend on the position, for the statistics of batch norms."""
        ...


class Data(Position, Protocol):
    """What training requires of a data module."""

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
