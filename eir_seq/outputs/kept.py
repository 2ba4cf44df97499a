"""What an evaluation keeps of its rows, batch by batch, and puts in order at the end; much of it lies in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from eir_seq.rows import Values, bytes_of
from eir_seq.spool import PART, ROWS_PER_BATCH, Arrays, Spool, Stack, zeros


class KeptPositions:
    """The positions of rows in their split, each once."""

    def __init__(self) -> None:
        self._batches, self._size = Stack(), 0

    @property
    def filled(self) -> bool:
        """Whether there is any row."""
        return self._batches.filled

    def add(self, rows: Tensor) -> None:
        """Keep those of a batch, (batch,)."""
        if len(rows):
            self._batches.push(rows.numpy())
            self._size = max(self._size, int(rows.max()) + 1)

    def pop_all(self) -> Tensor:
        """All positions, in the order in which they were added, and forget them."""
        parts = [rows for (rows,) in _popped(self._batches)][::-1]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]))

    def take(self) -> tuple[Tensor, Sequence[int]]:
        """By position the place of its row among all of them, and the positions in order, and forget them."""
        found = np.zeros(self._size, bool)
        for (rows,) in _popped(self._batches):
            found[rows] = True
        places = zeros((self._size,), np.int64)
        np.cumsum(found, out=places)
        places -= 1
        return torch.from_numpy(places), range(len(found)) if found.all() else np.flatnonzero(found).tolist()


class KeptRows:
    """Rows of an evaluation, batch by batch, on the CPU; many of them lie in files (`eir_seq.spool`)."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._batches, self._count, self._shape = Stack(), 0, list[int]()

    def add(self, part: Tensor, rows: Tensor) -> None:
        """Keep a batch, (batch, ...), of the rows with these positions, (batch,); half precision becomes single."""
        assert len(part) == len(rows), (part.shape, len(rows))
        kind = torch.float32 if part.is_floating_point() and part.dtype.itemsize < 4 else part.dtype
        kept = part.detach().to("cpu", kind, copy=True).numpy()
        self._batches.push(kept, rows.numpy())
        self._count, self._dtype = self._count + len(kept), kept.dtype
        self._shape = list(map(max, kept.shape[1:], self._shape or kept.shape[1:]))

    def pop_all(self) -> list[tuple[Tensor, Tensor]]:
        """All batches, each with its rows, and forget them."""
        found = [(torch.tensor(part), torch.tensor(rows)) for part, rows in _popped(self._batches)][::-1]
        self._begin()
        return found

    def take(self, places: Tensor) -> Tensor:
        """All rows, (rows, ...), and forget them.

        Args:
            places: the place in the result by the row's position.

        Rows with values per word, (batch, words, width), get zeros after the last.
        """
        joined = zeros((self._count, *self._shape), self._dtype)
        for part, rows in _popped(self._batches):
            inside: Any = (places.numpy()[rows], *(slice(size) for size in part.shape[1:]))
            joined[inside] = part
        self._begin()
        return torch.from_numpy(joined)


class KeptTexts:
    """A text of each row of an evaluation, batch by batch; many of them lie in a file."""

    def __init__(self) -> None:
        self._spool = Spool(memory=PART)
        self._texts: list[str] = []
        self._rows: list[int] = []

    def add(self, texts: Sequence[str], rows: Tensor) -> None:
        """Keep those of a batch, of the rows with these positions, (batch,)."""
        self._texts += texts
        self._rows += rows.tolist()
        if len(self._texts) >= ROWS_PER_BATCH:
            self._settle()

    def _settle(self) -> None:
        self._spool.add(
            pa.record_batch({"text": pa.array(self._texts, pa.string()), "row": pa.array(self._rows, pa.int64())})
        )
        self._texts, self._rows = [], []

    def pop_all(self) -> list[str]:
        """All texts, in the order in which they were added, and forget them."""
        self._settle()
        table, self._spool = self._spool.table(), Spool(memory=PART)
        texts: list[str] = table.column("text").to_pylist()
        return texts

    def take(self, places: Tensor) -> Values[str]:
        """The texts of all rows, and forget them; `places` as for `KeptRows.take`."""
        self._settle()
        table, self._spool = self._spool.table(), Spool(memory=PART)
        ends = zeros((table.num_rows + 1,), np.int64)
        for batch in table.to_batches():
            ends[places.numpy()[batch.column("row")] + 1] = pc.binary_length(batch.column("text"))
        np.cumsum(ends, out=ends)
        joined = zeros((int(ends[-1]),), np.uint8)
        for batch in table.to_batches():
            given, bounds = bytes_of(batch.column("text"))
            starts = ends[places.numpy()[batch.column("row")]] - bounds[:-1]
            joined[np.repeat(starts, np.diff(bounds)) + np.arange(len(given))] = given
        array = pa.LargeStringArray.from_buffers(table.num_rows, pa.py_buffer(ends), pa.py_buffer(joined))
        return Values(pa.chunked_array([array]))


def _popped(batches: Stack) -> Iterator[Arrays]:
    while batches.filled:
        yield batches.pop()
