"""Which rows form which batch: pure functions of the lengths, the seed and the epoch.

Nothing here holds state that moves, so that a resumed run, another number of workers or another process gets the same
batches. The number of batches is the same in every epoch, so that schedules know the number of steps beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.randomness import generator

Rows = NDArray[np.integer[Any]]

# Larger pools leave less padding, smaller ones mix more; few rows are cut into three pools at least, so that an epoch
# does not repeat the batches of the one before.
MIN_POOL_BATCHES, MAX_POOL_BATCHES, MIN_POOLS = 12, 50, 3
# Under a token budget it is the other way round: rows mix within a bucket of similar lengths.
MIN_BUCKET_BATCHES, MAX_BUCKET_BATCHES, MIN_BUCKETS = 2, 50, 12
COSTS_AT_ONCE = 4096
"""Batches whose lengths are held as floats at once."""


class TrainingOrder:
    """The batches of every epoch of training.

    `lengths` is ``(rows, inputs)``: tokens of each row for each input. Without a token budget the rows are shuffled
    and cut into pools, sorted by length within their pool (with `length_buckets`), and cut into batches.

    `max_tokens` is an upper bound of the padded tokens of a batch (longest row times rows, summed over inputs). The
    rows are then cut into fixed buckets of similar length, each with its own number of rows per batch, and shuffled
    within their bucket: the rows of a batch change from epoch to epoch, the number of batches cannot.

    `classes`, a list with the class of each row, makes every class equally frequent: rows of rare classes repeat, rows
    of frequent ones take turns over the epochs. With several such lists, rows are drawn in proportion to the mean of
    the inverse frequencies of their classes (`row_weights`).

    Raises `UserError` if one row alone exceeds `max_tokens`.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer[Any]],
        *,
        batch_size: int,
        seed: int,
        max_tokens: int | None = None,
        length_buckets: bool = True,
        classes: Sequence[Sequence[str]] = (),
    ) -> None:
        self.lengths = _as_columns(lengths)
        self.batch_size, self.max_tokens, self.length_buckets = batch_size, max_tokens, length_buckets
        self.seed = seed
        self.num_rows = len(self.lengths)
        self._totals = self.lengths[:, 0] if self.lengths.shape[1] == 1 else self.lengths.sum(axis=1)
        every: Rows = np.arange(self.num_rows, dtype=_counting(self.num_rows))
        class_rows: list[Rows] = [every]
        if len(classes) == 1:
            _, codes = np.unique(np.asarray(classes[0]), return_inverse=True)
            class_rows = [every[codes == code] for code in range(codes.max() + 1)]
        if max_tokens is None:
            parts, capacities = [every], [batch_size]
        else:
            check_budget(self.lengths, max_tokens)
            parts, capacities = _length_buckets(self.lengths, batch_size, max_tokens)
        self._buckets: Sequence[_Bucket | _WeightedBucket]
        if len(classes) > 1:
            self._buckets = _weighted(parts, capacities, row_weights(classes))
        else:
            self._buckets = _quotas(parts, capacities, class_rows, self.num_rows)
        self.batches_per_epoch = sum(-(-bucket.num_rows // bucket.capacity) for bucket in self._buckets)

    def batches(self, epoch: int) -> list[Rows]:
        """The batches of one epoch, `batches_per_epoch` arrays of row indices."""
        draw = generator(self.seed, "batches", epoch)
        batches: list[Rows] = []
        for bucket in self._buckets:
            rows = bucket.draw(draw)
            if self.max_tokens is not None:
                batches += np.array_split(rows, -(-len(rows) // bucket.capacity)) if len(rows) else []
                continue
            if self.length_buckets:
                wanted = -(-len(rows) // self.batch_size) // MIN_POOLS
                pool = min(max(wanted, MIN_POOL_BATCHES), MAX_POOL_BATCHES) * self.batch_size
                for i in range(0, len(rows), pool):
                    rows[i : i + pool] = self._by_length(rows[i : i + pool])
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        batches = _split_until(batches, self.batches_per_epoch)
        return [batches[i] for i in draw.permutation(len(batches))]

    def _by_length(self, rows: Rows) -> Rows:
        return rows[np.argsort(self._totals[rows], kind="stable")]


def batches_within(limit: int | float | None, batches: int) -> int:
    """How many of that many batches a limit leaves: a number, a share (at least one), or all (None)."""
    if limit is None:
        return batches
    return min(limit, batches) if isinstance(limit, int) else max(1, int(limit * batches))


def evaluation_batches(
    lengths: NDArray[np.integer[Any]], *, batch_size: int, max_tokens: int | None = None, length_buckets: bool = True
) -> list[Rows]:
    """Every row exactly once, the longest first: little padding, and a batch too large for memory fails at once.

    Without `length_buckets` and `max_tokens` the rows keep their order.
    """
    lengths = _as_columns(lengths)
    order: Rows = np.arange(len(lengths))
    if length_buckets or max_tokens is not None:
        order = np.argsort(-lengths.sum(axis=1), kind="stable").astype(_counting(len(lengths)))
    if max_tokens is None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    check_budget(lengths, max_tokens)
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        window = order[start : start + batch_size]
        widths = np.maximum.accumulate(lengths[window], axis=0).sum(axis=1)
        fits = int(np.searchsorted(widths * np.arange(1, len(window) + 1), max_tokens, side="right"))
        batches.append(window[:fits])
        start += fits
    return batches


def _counting(rows: int) -> type[np.int32 | np.int64]:
    """The smaller type of numbers that counts these rows."""
    return np.int32 if rows < 2**31 else np.int64


def part_of(batch: Rows, rank: int, world_size: int) -> Rows:
    """The rows of a batch that one of several processes computes, ``(rows,)``; none if there are fewer than processes.

    Rows of a batch are sorted by length where they are grouped by it, so that all processes get similar ones.
    """
    return batch[rank::world_size]


def padded_tokens(lengths: NDArray[np.integer[Any]], batch: Rows) -> int:
    """Tokens of a batch after padding: the longest row times the rows, summed over inputs."""
    return int(_as_columns(lengths)[batch].max(axis=0).sum()) * len(batch)


def batch_costs(lengths: NDArray[np.integer[Any]], batches: Sequence[Rows]) -> NDArray[np.float64]:
    """Estimates in proportion to the memory that training on each batch takes, ``(batches,)``.

    A layer of a transformer keeps about 34 numbers per token and channel and 5 per pair of tokens and head
    (Korthikanti et al., 2022, "Reducing Activation Recomputation in Large Transformer Models"): with heads of 64
    channels in proportion to length * (435 + length). Padded and packed computation count alike.
    """
    columns, costs = _as_columns(lengths), np.empty(len(batches), np.float64)
    for first in range(0, len(batches), COSTS_AT_ONCE):
        some = batches[first : first + COSTS_AT_ONCE]
        sizes = np.array([len(batch) for batch in some])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        values = columns[np.concatenate(some)].astype(np.float64)
        padded = sizes[:, None] * _activations(np.maximum.reduceat(values, starts, axis=0))
        packed = np.add.reduceat(_activations(values), starts, axis=0)
        costs[first : first + len(some)] = (padded + packed).sum(axis=1)
    return costs


def _activations(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return lengths * (435 + lengths)


def check_budget(lengths: NDArray[np.integer[Any]], max_tokens: int) -> None:
    """Raise `UserError` where a single row has more tokens than a batch may hold."""
    longest = int(_as_columns(lengths).sum(axis=1).max(initial=0))
    if longest > max_tokens:
        message = f"{max_tokens} is less than the longest row ({longest} tokens over all inputs)"
        raise UserError(Fault("data.max_tokens", message))


# ------------------------------------------------------------------------------------------------------ internals


class _Bucket:
    """Rows that are batched together: per class, which rows and how many of them an epoch draws."""

    def __init__(self, groups: list[tuple[Rows, int]], capacity: int) -> None:
        self.groups, self.capacity = groups, capacity
        self.num_rows = sum(count for _, count in groups)

    def draw(self, draw: np.random.Generator) -> Rows:
        drawn = [_take(rows, count, draw) for rows, count in self.groups]
        if not drawn:
            return np.empty(0, np.int64)
        rows = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
        del drawn
        draw.shuffle(rows)
        return rows


class _WeightedBucket:
    """Rows that are batched together, and how often each of them is drawn in an epoch on average."""

    def __init__(self, rows: Rows, weights: NDArray[np.float64], num_rows: int, capacity: int) -> None:
        self.rows, self.weights, self.num_rows, self.capacity = rows, weights, num_rows, capacity

    def draw(self, draw: np.random.Generator) -> Rows:
        """Systematic sampling: each row as often as it should be, rounded up or down."""
        order = draw.permutation(len(self.rows))
        ends = np.cumsum(self.weights[order])
        points = (draw.random() + np.arange(self.num_rows)) * (ends[-1] / self.num_rows)
        return draw.permutation(self.rows[order[np.minimum(np.searchsorted(ends, points, "right"), len(order) - 1)]])


def row_weights(classes: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How often rows are drawn in an epoch, ``(rows,)``, by their classes in several columns; the mean is 1.

    Each column alone would draw a row ``rows / (classes * rows of its class)`` times; this is the mean over columns.

    Example:
        >>> from eir_seq.data.batching import row_weights
        >>> row_weights([["a", "a", "a", "b"], ["x", "x", "y", "y"]]).round(2).tolist()
        [0.83, 0.83, 0.83, 1.5]
    """
    found = []
    for column in classes:
        _, codes, counts = np.unique(np.asarray(column), return_inverse=True, return_counts=True)
        found.append(len(column) / (len(counts) * counts[codes]))
    weights: NDArray[np.float64] = np.mean(found, axis=0)
    return weights


def _weighted(parts: list[Rows], capacities: list[int], weights: NDArray[np.float64]) -> list[_WeightedBucket]:
    """Rows of each bucket with their weights, and how many of them an epoch draws; the same in every epoch."""
    totals = apportion(np.array([weights[part].sum() for part in parts]), len(weights))
    found = zip(parts, totals.tolist(), capacities, strict=True)
    return [_WeightedBucket(part, weights[part], total, capacity) for part, total, capacity in found if total]


def _take(rows: Rows, count: int, draw: np.random.Generator) -> Rows:
    """`count` of `rows` in random order; none a second time before all were taken once."""
    rounds = [draw.permutation(rows) for _ in range(-(-count // len(rows)))]
    return rounds[0][:count] if len(rounds) == 1 else np.concatenate(rounds)[:count]


def _length_buckets(
    lengths: NDArray[np.integer[Any]], batch_size: int, max_tokens: int
) -> tuple[list[Rows], list[int]]:
    """Rows cut by length into buckets, and the rows per batch that keep the budget for any mixture within a bucket."""
    totals = lengths.sum(axis=1)
    order: Rows = np.argsort(totals, kind="stable")
    num_batches = max(int(totals.sum()) // max_tokens, len(lengths) // batch_size)
    size = min(max(num_batches // MIN_BUCKETS, MIN_BUCKET_BATCHES), MAX_BUCKET_BATCHES)
    buckets, capacities, start = [], [], 0
    while start < len(order):
        window = order[start : start + size * batch_size]
        widths = np.maximum.accumulate(lengths[window], axis=0).sum(axis=1)
        capacity = np.minimum(batch_size, max_tokens // np.maximum(widths, 1))
        # The capacity may reach 0 where inputs are long in different rows; the bucket ends before that.
        full = np.flatnonzero((np.arange(1, len(window) + 1) >= size * capacity) & (capacity > 0))
        end = int(full[0]) + 1 if len(full) else int((capacity > 0).sum())
        buckets.append(window[:end])
        capacities.append(int(capacity[end - 1]))
        start += end
    return buckets, capacities


def _quotas(parts: list[Rows], capacities: list[int], class_rows: list[Rows], num_rows: int) -> list[_Bucket]:
    """How many rows of each class an epoch draws from each bucket; the same in every epoch, `num_rows` in all."""
    totals = (
        [num_rows]
        if len(class_rows) == 1
        else apportion(np.full(len(class_rows), num_rows / len(class_rows)), num_rows).tolist()
    )
    if len(parts) == 1:
        return [_Bucket([pair for pair in zip(class_rows, totals, strict=True) if pair[1]], capacities[0])]
    bucket_of = np.empty(num_rows, np.int32)
    for index, part in enumerate(parts):
        bucket_of[part] = index
    groups: list[list[tuple[Rows, int]]] = [[] for _ in parts]
    for rows, total in zip(class_rows, totals, strict=True):
        counts = np.bincount(bucket_of[rows], minlength=len(parts))
        for index, count in enumerate(apportion(counts * (total / len(rows)), int(total))):
            if count:
                groups[index].append((rows[bucket_of[rows] == index], int(count)))
    return [_Bucket(group, capacity) for group, capacity in zip(groups, capacities, strict=True)]


def apportion(shares: NDArray[np.floating[Any]], total: int) -> NDArray[np.int64]:
    """Integers next to `shares` that sum to `total` (largest remainders)."""
    counts: NDArray[np.int64] = np.floor(shares + 1e-9).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    return counts


def _split_until(batches: list[Rows], count: int) -> list[Rows]:
    """Split the largest batches in two until there are `count`; batches of a single row can only be repeated."""
    batches = list(batches)
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        batch = batches[largest]
        batches[largest : largest + 1] = np.array_split(batch, 2) if len(batch) > 1 else [batch, batch]
    return batches


def _as_columns(lengths: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    lengths = np.asarray(lengths)
    return lengths[:, None] if lengths.ndim == 1 else lengths
