"""Reads training rows of a streamed table in the order of an epoch or pass, from any row on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.data.stream.table import Part, StreamedTable
from eir_seq.errors import Fault, UserError
from eir_seq.randomness import generator

Numbered = tuple[pa.Table, NDArray[np.int64]]
"""Rows, and the number of each in its table."""


class Reader:
    """The rows of pieces that follow one another. Going on is cheap; so is going back where rows are counted.

    Args:
        table: the streamed table.
        pieces: which of its pieces, in this order.
    """

    def __init__(self, table: StreamedTable, pieces: Sequence[int]) -> None:
        self.table, self.pieces = table, pieces
        self.row = 0
        """The next row."""
        self._ends = None
        if table.counts is not None:
            self._ends = np.cumsum([table.counts[piece] for piece in pieces])
        self._seek(0)

    def take(self, start: int, count: int) -> Numbered:
        """Rows `start` to ``start + count``; fewer at the end. Raises `UserError` where they cannot be read."""
        if start != self.row:
            self._go(start)
        found: list[Numbered] = []
        while count > 0 and (part := self._next()) is not None:
            table, numbers = part.load()
            found.append((table.slice(0, count), numbers[:count]))
            if part.rows > count:
                self._keep(table.slice(count), numbers[count:])
            self.row += min(count, part.rows)
            count -= part.rows
        if not found:
            return _nothing(self.table)
        tables, numbers_of = zip(*found, strict=True)
        return pa.concat_tables(tables, promote_options="permissive"), np.concatenate(numbers_of)

    # ------------------------------------------------------------------------------------------------- internals

    def _seek(self, place: int) -> None:
        """Continue at the beginning of a piece, by its place."""
        self.row = 0 if self._ends is None or not place else int(self._ends[place - 1])
        self._end = self.row if self._ends is None or place >= len(self.pieces) else int(self._ends[place])
        self._left: Part | None = None
        self._parts = self._read(place)

    def _read(self, place: int) -> Iterator[Part]:
        for later in range(place, len(self.pieces)):
            if self._ends is not None:
                self._end = int(self._ends[later])
            yield from self.table.parts(self.pieces[later])

    def _go(self, start: int) -> None:
        """Continue at a row."""
        if self._ends is not None and not self.row <= start < self._end:
            self._seek(int(np.searchsorted(self._ends, start, side="right")))
        elif start < self.row:
            self._seek(0)
        while self.row < start and (part := self._next()) is not None:
            skipped = min(part.rows, start - self.row)
            self.row += skipped
            if skipped < part.rows:
                table, numbers = part.load()
                self._keep(table.slice(skipped), numbers[skipped:])

    def _next(self) -> Part | None:
        part, self._left = self._left, None
        return part if part is not None else next(self._parts, None)

    def _keep(self, table: pa.Table, numbers: NDArray[np.int64]) -> None:
        self._left = Part(table.num_rows, lambda: (table, numbers))


class Passes:
    """The rows of passes over a table, one after the other, each with the pieces in another order.

    Args:
        table: the streamed table.
        seed: of the order of the pieces.
    """

    def __init__(self, table: StreamedTable, seed: int) -> None:
        self.table, self.seed = table, seed
        self._length = table.num_rows
        self._open(0, 0)

    def take(self, start: int, count: int) -> Numbered:
        """Rows `start` to ``start + count`` since the beginning of the first pass.

        A table that is not counted is read up to `start`, though not further than one pass.

        Raises:
            UserError: rows cannot be read, or there are none.
        """
        found: list[Numbered] = []
        while count > 0:
            if start < self._first:
                self._open(0, 0)
            if self._length is not None and start >= self._first + self._length:
                number = start // self._length
                self._open(number, number * self._length)
            part = self._reader.take(start - self._first, count)
            if not len(part[1]):  # the pass has ended: now its length is known
                self._length = self._length or self._reader.row
                if not self._length:
                    raise UserError(Fault("data.train", f"{self.table.shards.source} has no row to train on"))
                if start < self._first + self._length:
                    self._open(self._pass, self._first)
                continue
            found.append(part)
            start += len(part[1])
            count -= len(part[1])
        tables, numbers = zip(*found, strict=True)
        return pa.concat_tables(tables, promote_options="permissive"), np.concatenate(numbers)

    def _open(self, number: int, first: int) -> None:
        self._pass, self._first = number, first
        pieces = generator(self.seed, "pieces", number).permutation(len(self.table.shards.pieces)).tolist()
        self._reader = Reader(self.table, pieces)


def _nothing(table: StreamedTable) -> Numbered:
    return pa.table({name: pa.array([], pa.string()) for name in table.columns}), np.empty(0, np.int64)
