"""Windows of streamed rows, encoded in loader processes, and the batches that training gets of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from eir_seq.config.mixing import MixingConfig
from eir_seq.data.batching import Rows
from eir_seq.data.dataset import Batch, BatchKey, EncodedSplit, encode_split, own_key
from eir_seq.data.encoded import EncodedInMemory, Progress
from eir_seq.data.stream.order import EpochOrder, pass_batches
from eir_seq.data.stream.reader import Passes, Reader
from eir_seq.data.stream.table import StreamedTable
from eir_seq.modalities.base import FittedModality, RowSource
from eir_seq.outputs.base import FittedOutput
from eir_seq.rows import Rows as TableRows


class WindowKey(NamedTuple):
    """A window: the epoch whose order it is of, its number, and the epoch that random numbers are drawn for."""

    order: int
    number: int
    epoch: int


@dataclass(frozen=True)
class Window:
    """Encoded rows, and the batches that are made of them: a process's own rows of each."""

    split: EncodedSplit
    keys: list[BatchKey]


@dataclass(frozen=True)
class Encoder:
    """Encodes streamed rows."""

    inputs: Mapping[str, FittedModality]
    outputs: Mapping[str, FittedOutput]
    seed: int
    dropout: Mapping[str, float]
    mixing: MixingConfig | None = None

    def __call__(self, rows: pa.Table) -> EncodedSplit:
        """The rows, encoded; raises `UserError` where an output cannot use them."""
        split, _ = encode_split(
            TableRows(rows.combine_chunks()),
            "train",
            self.inputs,
            self.outputs,
            seed=self.seed,
            cache=_InMemory(),
            dropout=self.dropout,
            mixing=self.mixing,
            review=False,
        )
        return split


class Windows(Protocol):
    """Makes windows by their keys, cheaply where they follow one another."""

    def __getitem__(self, key: WindowKey) -> Window:
        """The window of a key."""


class EpochWindows:
    """The windows of an `EpochOrder`, of one of several processes."""

    def __init__(
        self, table: StreamedTable, order: EpochOrder, encoder: Encoder, *, by_length: bool, rank: int, world_size: int
    ) -> None:
        self.table, self.order, self.encoder, self.by_length = table, order, encoder, by_length
        self.rank, self.world_size = rank, world_size
        self.own_lanes = order.lanes % world_size == 0 and (world_size == 1 or encoder.mixing is None)
        """Whether each process reads lanes that no other one reads. Rows are mixed with those of all lanes."""
        self.lanes = range(rank, order.lanes, world_size) if self.own_lanes else range(order.lanes)
        self._readers: dict[int, tuple[int, Reader]] = {}

    def __getitem__(self, key: WindowKey) -> Window:
        """The window of a key."""
        lanes = [self.order.lane(lane, key.number) for lane in self.lanes]
        taken = [
            self._reader(lane, key.order).take(rows.start, rows.stop - rows.start)
            for lane, rows in zip(self.lanes, lanes, strict=True)
        ]
        table = pa.concat_tables([rows for rows, _ in taken], promote_options="permissive")
        numbers = np.concatenate([numbers for _, numbers in taken])
        starts = np.cumsum([0, *(len(numbers) for _, numbers in taken)])
        lengths: list[NDArray[np.int64] | None] = [None] * len(lanes)
        split = None
        if self.by_length or self.encoder.mixing is not None:
            split = numbered(self.encoder(table), numbers)
        if split is not None and self.by_length:
            lengths = list(np.split(split.lengths.sum(axis=1), starts[1:-1]))
        parts = [
            [start + batch for batch in self.order.batches(key.order, key.number, lane, rows, own)]
            for lane, rows, own, start in zip(self.lanes, lanes, lengths, starts.tolist(), strict=False)
        ]
        batches = [_interleaved(batch) for batch in zip(*parts, strict=True)]
        rank, world_size = (0, 1) if self.own_lanes else (self.rank, self.world_size)
        if split is not None:
            return Window(split, [split.own_key(batch, key.epoch, rank, world_size) for batch in batches])
        # Where no batch depends on lengths or on other rows, those of other processes are not encoded.
        keys = [own_key(batch, key.epoch, rank, world_size) for batch in batches]
        own = np.concatenate([batch.rows for batch in keys])
        ends = np.cumsum([0, *(len(batch.rows) for batch in keys)]).tolist()
        keys = [replace(k, rows=tuple(range(a, b))) for k, a, b in zip(keys, ends, ends[1:], strict=False)]
        return Window(numbered(self.encoder(table.take(pa.array(own))), numbers[own]), keys)

    def _reader(self, lane: int, epoch: int) -> Reader:
        """The reader of a lane, which goes on from window to window."""
        held = self._readers.get(lane)
        if held is None or held[0] != epoch:
            held = self._readers[lane] = epoch, Reader(self.table, self.order.pieces(epoch))
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}


class PassWindows:
    """The windows of passes over a table; every process reads all of them and gets its own rows of each batch."""

    def __init__(
        self,
        table: StreamedTable,
        encoder: Encoder,
        *,
        buffer: int,
        batch_size: int,
        max_tokens: int | None,
        by_length: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.table, self.encoder = table, encoder
        self.buffer = max(1, buffer // batch_size) * batch_size
        self.batch_size, self.max_tokens, self.by_length = batch_size, max_tokens, by_length
        self.rank, self.world_size = rank, world_size
        self._passes: Passes | None = None

    def __getitem__(self, key: WindowKey) -> Window:
        """The window of a key."""
        if self._passes is None:
            self._passes = Passes(self.table, self.encoder.seed)
        rows, _ = self._passes.take(key.number * self.buffer, self.buffer)
        split = self.encoder(rows)
        batches = pass_batches(
            split.lengths.astype(np.int64),
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            by_length=self.by_length,
            seed=self.encoder.seed,
            window=key.number,
        )
        return Window(split, [split.own_key(batch, key.epoch, self.rank, self.world_size) for batch in batches])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_passes": None}


class WindowSampler(Sampler[WindowKey]):
    """The windows from a position on; how far loader processes have come says nothing about what was trained on."""

    def __init__(self, windows: int | None) -> None:
        self.windows = windows
        """Of an epoch; None: there is no end."""
        self.epoch = self.number = 0
        self.fixed = False
        """Whether the batches of every epoch are those of the first."""

    def __iter__(self) -> Iterator[WindowKey]:
        number, epoch, order = self.number, self.epoch, 0 if self.fixed else self.epoch
        while self.windows is None or number < self.windows:
            yield WindowKey(order, number, number if self.windows is None else epoch)
            number += 1


class StreamLoader:
    """The batches of an epoch, from a position on. `sampler` is the object whose ``set_epoch`` a trainer calls."""

    def __init__(self, windows: DataLoader[Window], sampler: Any, batches: int) -> None:
        self.windows, self.sampler, self.batches = windows, sampler, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        """The position is read now, not at the first batch. `window`: the position after the batch."""
        number, skip, left = self.sampler.begin()
        return self._made(iter(self.windows), number, skip, left)

    def _made(self, windows: Iterator[Window], number: int, skip: int, left: int) -> Iterator[Batch]:
        while left > 0 and (window := next(windows, None)) is not None:
            keys = window.keys[skip:]
            for place, key in enumerate(keys[:left], skip + 1):
                after = (number + 1, 0) if place == len(window.keys) else (number, place)
                yield {**window.split[key], "window": after}
            left -= len(keys)
            number, skip = number + 1, 0


class _InMemory:
    """Encodes rows that no cache keeps."""

    def encode(
        self, rows: TableRows, fitted: FittedModality, description: str, progress: Progress | None = None
    ) -> EncodedInMemory:
        """The encoded rows."""
        del description, progress
        return EncodedInMemory(fitted, rows.select_columns(list(dict.fromkeys(fitted.columns))).table)


@dataclass(frozen=True)
class NumberedRows:
    """Encoded rows that are named by their numbers in a table."""

    source: RowSource
    places: Mapping[int, int]

    @property
    def features(self) -> Any:
        """The available features."""
        return self.source.features

    def numbers(self, feature: str) -> NDArray[Any]:
        """One number per row, ``(rows,)``."""
        return self.source.numbers(feature)

    def sequences(self, feature: str, rows: Any) -> list[NDArray[Any]]:
        """The sequences of the rows with these numbers."""
        return self.source.sequences(feature, [self.places[row] for row in rows])

    def arrays(self, feature: str, rows: Any) -> NDArray[Any]:
        """The arrays of the rows with these numbers."""
        return self.source.arrays(feature, [self.places[row] for row in rows])


def numbered(split: EncodedSplit, numbers: NDArray[np.int64]) -> EncodedSplit:
    """The split whose random numbers are drawn by the numbers of its rows in their table."""
    places = {number: place for place, number in enumerate(numbers.tolist())}
    inputs = {name: NumberedRows(source, places) for name, source in split.inputs.items()}
    return replace(split, inputs=inputs, row_numbers=numbers)


def _interleaved(parts: tuple[Rows, ...]) -> Rows:
    """The rows of a batch, those of all lanes in turn."""
    places = np.concatenate([np.arange(len(part)) for part in parts])
    return np.concatenate(parts)[np.argsort(places, kind="stable")]
