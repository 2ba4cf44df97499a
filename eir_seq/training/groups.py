"""The micro-batches of an optimizer step, and what its losses are divided by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import Batch
from eir_seq.training.losses import counted_rows, loss_counts
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks


class Batches(Protocol):
    """Batches of a known number."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class Groups:
    """Training batches with the counts of their losses, and those of the optimizer step that they are part of.

    The mean over the tokens of several micro-batches is not the mean of their means. Each output's sum has to be
    divided by the tokens of all of them before the first backward pass: afterwards the gradients of several outputs are
    one sum. So the batches of a step are read before its first one is given out.

    Args:
        batches: those of an epoch, or from the beginning of a step on.
        network: what is trained.
        outputs: the fitted outputs by name.
        size: batches per optimizer step; the last step of an epoch may have fewer.
        ranks: the processes that share the rows of each batch.
    """

    def __init__(
        self,
        batches: Batches,
        network: Network,
        outputs: Mapping[str, FittedOutput],
        size: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.batches, self.network, self.outputs, self.size, self.ranks = batches, network, outputs, size, ranks

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def sampler(self) -> Any:
        """That of the batches, whose ``set_epoch`` the trainer calls; None if they have none."""
        return getattr(self.batches, "sampler", None)

    def __iter__(self) -> Iterator[Batch]:
        """Each batch with `counts` of its own, and `step_counts` and `step_rows` of the whole optimizer step, of all
        processes."""
        return self._grouped(iter(self.batches))  # the sampler reads its position now, not at the first batch

    def _grouped(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while group := list(islice(batches, self.size)):
            counts = [loss_counts(self.network, self.outputs, batch) for batch in group]
            total = {
                name: [sum(values) for values in zip(*(own[name] for own in counts), strict=True)]
                for name in self.outputs
            }
            rows = sum(counted_rows(batch) for batch in group)
            if self.ranks.several:
                flat = iter(self.ranks.sum([rows, *(value for values in total.values() for value in values)]))
                rows = int(next(flat))
                total = {name: [next(flat) for _ in values] for name, values in total.items()}
            for batch, own in zip(group, counts, strict=True):
                yield {**batch, "counts": own, "step_counts": total, "step_rows": rows}
