"""A streamed table: which rows are trained on, what is held out, and the sample that inputs and outputs are fitted on.

Files are read once before training, the wanted columns alone, and the outcome is kept in the cache: rows are checked,
counted, and held out by a hash of their id, and a sample is drawn in which every row is equally likely. Hub datasets
are too far away for that: their sample is the beginning of up to `SAMPLED_SHARDS` shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import BadRow
from eir_seq.data.roles import Roles
from eir_seq.data.rows import ID, CheckedRows, check_rows
from eir_seq.data.stream.shards import Chunk, Shards
from eir_seq.errors import RunFailed
from eir_seq.randomness import derive_seed, generator
from eir_seq.remote import shown

HASHES = 2**63
"""Values of the hash by which rows are held out."""
SAMPLED_SHARDS = 16
"""Shards of a Hub dataset that its sample is taken from."""
SOURCE_BITS = 40
"""Bits of a row's place in its file; the bits above them number the file."""


@dataclass(frozen=True)
class Part:
    """Training rows of a piece that follow one another; they are read into memory by `load`, with their numbers."""

    rows: int
    load: Callable[[], tuple[pa.Table, NDArray[np.int64]]]


@dataclass(frozen=True)
class StreamedTable:
    """The training rows of a table.

    Attributes:
        shards: the table.
        roles: what its columns are for.
        data: how it is read.
        bounds: by held-out part, the hash below which rows are held out (and not for the parts before).
        counts: training rows of each piece; None where they are not counted.
        whole: by piece, whether all of its rows are trained on.
    """

    shards: Shards
    roles: Roles
    data: DataConfig
    bounds: Mapping[str, int]
    counts: tuple[int, ...] | None = None
    whole: tuple[bool, ...] = ()

    @property
    def num_rows(self) -> int | None:
        """Training rows, if they are counted."""
        return None if self.counts is None else sum(self.counts)

    @cached_property
    def columns(self) -> list[str]:
        """The columns of training rows."""
        return [ID, *dict.fromkeys([*self.roles.of("input"), *self.roles.of("target")])]

    @cached_property
    def _sources(self) -> dict[tuple[str, int | None], int]:
        """The number of the file or shard of each piece."""
        counted, pieces = self.shards.counted, self.shards.pieces
        keys = dict.fromkeys((piece.source, None if counted else piece.part) for piece in pieces)
        return {key: number for number, key in enumerate(keys)}

    def source_of(self, piece: int) -> int:
        """The number of the file or shard that a piece is of."""
        found = self.shards.pieces[piece]
        return self._sources[found.source, None if self.shards.counted else found.part]

    def parts(self, piece: int) -> Iterator[Part]:
        """The training rows of a piece, in order.

        Raises:
            UserError: they cannot be read.
            RunFailed: their number is not what it was.
        """
        rows = 0
        whole = self.whole[piece] if self.counts is not None else self.data.on_bad_row == "error"
        for chunk in self.shards.read(self.shards.pieces[piece]):
            if whole:
                part = Part(chunk.raw.table.num_rows, lambda chunk=chunk: self._trained(chunk, piece))  # type: ignore[misc]
            else:
                table, numbers = self._trained(chunk, piece)
                part = Part(table.num_rows, lambda found=(table, numbers): found)  # type: ignore[misc]
            rows += part.rows
            if part.rows:
                yield part
        if self.counts is not None and rows != self.counts[piece]:
            raise RunFailed(f"{shown(self.shards.pieces[piece].source)} has changed since its rows were counted")

    def _trained(self, chunk: Chunk, piece: int) -> tuple[pa.Table, NDArray[np.int64]]:
        checked, numbers = self.checked(chunk, piece)
        table = checked.table.select(self.columns)
        if not self.bounds:
            return table, numbers
        kept = self.hashes(checked.table) >= max(self.bounds.values())
        return table.filter(pa.array(kept)), numbers[kept]

    def checked(self, chunk: Chunk, piece: int) -> tuple[CheckedRows, NDArray[np.int64]]:
        """The usable rows of a chunk, and the number of each in the table; raises `UserError` as `check_rows` does."""
        source = self.source_of(piece)
        checked = check_rows(
            chunk.raw,
            self.roles,
            skip_bad=self.data.on_bad_row == "skip",
            missing_labels=self.data.missing_labels,
            id_prefix="" if len(self._sources) == 1 else f"{source + 1}-",
            need_targets=True,
            folder=self.data.cache_dir,
            first=chunk.first,
        )
        numbers = (source << SOURCE_BITS) + chunk.first + np.arange(chunk.raw.table.num_rows, dtype=np.int64)
        return checked, numbers[np.asarray(checked.kept, np.int64)]

    def hashes(self, table: pa.Table) -> NDArray[np.int64]:
        """By what rows are held out, (rows,): the hash of the id, or of the group."""
        column, seed = self.data.group or ID, self.data.split_seed
        values = table.column(column).to_pylist()
        return np.fromiter((derive_seed(seed, "split", value) for value in values), np.int64, len(values))


def sampled_shards(table: StreamedTable) -> list[int]:
    """The pieces that the sample of an uncounted table is taken from, at random."""
    order = generator(table.data.split_seed, "fit", "shards").permutation(len(table.shards.pieces))
    return sorted(order[:SAMPLED_SHARDS].tolist())


@dataclass(frozen=True)
class Survey:
    """What is known of a table before training."""

    table: StreamedTable
    sample: pa.Table
    held: Mapping[str, pa.Table]
    digest: str
    """Hash of the rows of all pieces; of an uncounted table, of the sample."""
    skipped: tuple[BadRow, ...] = ()

    def describe(self) -> dict[str, Any]:
        """As JSON, without the tables."""
        return {
            "bounds": dict(self.table.bounds),
            "counts": self.table.counts,
            "whole": self.table.whole,
            "digest": self.digest,
            "skipped": [[row.id, row.place, row.reason, row.before] for row in self.skipped],
        }
