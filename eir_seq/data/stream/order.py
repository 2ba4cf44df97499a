"""Which streamed rows form which batch: functions of the seed, the epoch and the place in it, and of row counts.

Where rows are counted, an `EpochOrder` gives every epoch the same number of batches, of nearly the same number of rows.
Where they are not (a Hub dataset), or where rows do not tell how many batches they make (a budget of tokens, texts that
are cut into blocks), passes over the table follow one another without end (`pass_batches`).

Both cut the rows into windows of `data.shuffle_buffer` rows, within which rows are shuffled and batched by length. A
window depends on no window before it, so that a run continues at any batch by reading one window.

The batches do not depend on the number of processes, each of which has its own rows of every batch. In an `EpochOrder`
the table is read at several places at once, its *lanes*, each of which gives the same share of every batch; where the
number of processes divides that of lanes, a process reads its lanes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir_seq.data.batching import Rows, evaluation_batches
from eir_seq.errors import Fault, UserError
from eir_seq.randomness import generator

MOST_LANES = 8


def lanes_of(batch_size: int, pieces: int) -> int:
    """At how many places a table is read: a power of two, so that each gives at least two rows of each batch.

    >>> lanes_of(32, 100), lanes_of(32, 3), lanes_of(12, 100), lanes_of(7, 100)
    (8, 2, 2, 1)
    """
    lanes = 1
    while lanes < MOST_LANES and 2 * lanes <= pieces and batch_size % (4 * lanes) == 0:
        lanes *= 2
    return lanes


@dataclass(frozen=True)
class LaneRows:
    """Rows `start` to `stop` of a pass, and how many of them each batch of a window gets."""

    start: int
    stop: int
    sizes: tuple[int, ...]


class EpochOrder:
    """The batches of epochs over a table whose training rows are counted.

    Args:
        counts: training rows of each piece.
        batch_size: of the batches of all processes together; none is larger.
        buffer: rows of a window.
        seed: of the order.

    Raises:
        UserError: there are fewer rows than two batches have.
    """

    def __init__(self, counts: Sequence[int], *, batch_size: int, buffer: int, seed: int) -> None:
        self.counts, self.seed = np.asarray(counts, np.int64), seed
        self.num_rows = int(self.counts.sum())
        if self.num_rows < 2 * batch_size:
            message = f"{self.num_rows:,} rows are too few to be streamed in batches of {batch_size}; leave it out"
            raise UserError(Fault("data.streaming", message))
        self.lanes = lanes_of(batch_size, len(self.counts))
        self.num_batches = -(-self.num_rows // batch_size)
        self.window_batches = max(1, buffer // batch_size)

    def pieces(self, epoch: int) -> list[int]:
        """The order in which an epoch reads the pieces."""
        order: list[int] = generator(self.seed, "pieces", epoch).permutation(len(self.counts)).tolist()
        return order

    def lane(self, lane: int, window: int) -> LaneRows:
        """The rows that a lane gives to a window."""
        first, end = lane * self.num_rows // self.lanes, (lane + 1) * self.num_rows // self.lanes
        batches = np.arange(window * self.window_batches, min((window + 1) * self.window_batches, self.num_batches) + 1)
        phase = lane * self.num_batches // self.lanes  # else all lanes would round up and down in the same batches
        cuts = first + (batches * (end - first) + phase) // self.num_batches
        return LaneRows(int(cuts[0]), int(cuts[-1]), tuple(np.diff(cuts).tolist()))

    def _lane(self, lane: int) -> tuple[int, int]:
        return lane * self.num_rows // self.lanes, (lane + 1) * self.num_rows // self.lanes

    def batches(
        self, epoch: int, window: int, lane: int, rows: LaneRows, lengths: NDArray[np.int64] | None
    ) -> list[Rows]:
        """The rows of each batch that a lane gives to it, by their place among the lane's rows of the window.

        Batches have rows of similar `lengths`, (rows,), if these are given.
        """
        order = generator(self.seed, "rows", epoch, window, lane).permutation(rows.stop - rows.start)
        if lengths is not None:
            order = order[np.argsort(lengths[order], kind="stable")]
        cut = np.split(order, np.cumsum(rows.sizes)[:-1])
        return [cut[place] for place in generator(self.seed, "batches", epoch, window).permutation(len(cut)).tolist()]


def pass_batches(
    lengths: NDArray[np.int64], *, batch_size: int, max_tokens: int | None, by_length: bool, seed: int, window: int
) -> list[Rows]:
    """The batches of a window of a pass, each with at least half as many rows as the others of that length.

    Args:
        lengths: of the rows of the window, ``(rows, inputs)``.
        batch_size: rows of a batch.
        max_tokens: padded tokens of a batch; see `eir_seq.data.batching.TrainingOrder`.
        by_length: batches have rows of similar lengths.
        seed: of the order.
        window: its number.
    """
    draw = generator(seed, "window", window)
    order = draw.permutation(len(lengths))
    if max_tokens is None:
        if by_length:
            order = order[np.argsort(lengths[order].sum(axis=1), kind="stable")]
        batches = np.array_split(order, -(-len(order) // batch_size))
    else:
        batches = [
            order[batch] for batch in evaluation_batches(lengths[order], batch_size=batch_size, max_tokens=max_tokens)
        ]
        if len(batches) > 1 and len(batches[-1]) < len(batches[-2]):  # what is left over, next to longer rows
            batches[-2:] = np.array_split(np.concatenate(batches[-2:]), 2)
    return [batches[place] for place in draw.permutation(len(batches)).tolist()]
