"""What a streamed table consists of: row groups, files, or shards of a Hub dataset, each read from its beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from eir_seq import remote
from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import RawTable, Wanted, reading
from eir_seq.data.readers.folder import TEXT_COLUMN
from eir_seq.data.readers.hub import HubSplit
from eir_seq.errors import Fault, UserError

ROWS_PER_CHUNK = 4096
"""Rows that are read at once."""
LOOKED_AT_ONCE = 16
"""Files whose size and time are looked up at the same time."""
BLOCK = 1 << 22
"""Bytes of a text file that are parsed at once; no row may be longer."""
CSV, JSON, TEXT = ("csv", "tsv", "tab"), ("jsonl", "ndjson", "json"), ("txt",)
FORMATS = {
    **dict.fromkeys(("parquet", "pq"), "parquet"),
    **dict.fromkeys(("arrow", "feather", "ipc"), "arrow"),
    **dict.fromkeys(CSV, "csv"),
    **dict.fromkeys(JSON, "json"),
    **dict.fromkeys(TEXT, "text"),
}
"""The format of files by their suffix; text formats may be compressed (``.gz``)."""


@dataclass(frozen=True)
class Piece:
    """A part of a table that is read from its beginning: `part` of a file (its row group), or a shard of a dataset.

    `first`: rows of the same file that precede it.
    """

    source: str
    part: int | None = None
    first: int = 0


@dataclass(frozen=True)
class Chunk:
    """Some rows of a piece that follow one another; `first` is the number of the first, counted from 0."""

    raw: RawTable
    first: int


class Shards(Protocol):
    """A table in pieces. Small when pickled: loader processes open the files themselves."""

    @property
    def source(self) -> str:
        """What the table is called in messages."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """Its pieces, in order."""

    @property
    def counted(self) -> bool:
        """Whether it may be read before training, to count its rows."""

    @property
    def identity(self) -> list[Any]:
        """What changes when the table does: names, sizes and times of its files."""

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """The wanted columns of a piece, in chunks; raises `UserError` where they cannot be read."""


def open_shards(data: DataConfig, wanted: Wanted, place: str = "data.train") -> Shards:
    """The training table as shards.

    Args:
        data: names the table and says how it is read.
        wanted: the columns that are read.
        place: the config key that names the table.

    Raises:
        UserError: no such file, dataset or column.
    """
    if data.source == "hub":
        return HubShards(data, wanted, place)
    return FileShards(data, wanted, place)


class FileShards:
    """Files of one format, read by ``pyarrow.dataset``; row groups of Parquet are pieces, and so are other files."""

    counted = True

    def __init__(self, data: DataConfig, wanted: Wanted, place: str) -> None:
        assert data.train is not None, "the rules demand it"
        self.data, self.wanted, self.place = data, wanted, place
        self.source = remote.shown(data.train)
        self._opened: tuple[int, Any, dict[str, Any]] | None = None
        with self._reading(self.source):
            found = remote.matching(data.train, tuple(f".{suffix}" for suffix in FORMATS), place)
        self.files = [path for path in found if _suffix(path) in FORMATS]
        if not self.files:
            listed = ", ".join(FORMATS)
            raise UserError(Fault(place, f"{self.source}: no file with a suffix that is streamed ({listed})"))
        formats = {self._format(path): path for path in self.files}
        if len(formats) > 1:
            shown = " and ".join(map(repr, formats.values()))
            raise UserError(Fault(place, f"{self.source} holds files of several formats ({shown}); give those of one"))
        (self.format,) = formats
        with self._reading(self.source):
            self._names = [TEXT_COLUMN] if self.format == "text" else list(self._dataset.schema.names)
        self.positions = wanted.resolve(self._names, self.source)
        self.pieces = [piece for path in self.files for piece in self._pieces_of(path)]

    @property
    def identity(self) -> list[Any]:
        """Names, sizes and times of the files."""
        urls = list(map(self._url, self.files))
        with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:
            versions = list(pool.map(lambda url: remote.version(url, self.place), urls))
        return [self.format, *([remote.shown(url), *state] for url, state in zip(urls, versions, strict=True))]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """The wanted columns of a piece, in chunks."""
        first, source = piece.first, remote.shown(piece.source)
        remote.name_copy(source, piece.source)
        with self._reading(piece.source):
            for batch in self._lines(piece) if self.format == "text" else self._batches(piece):
                columns = {new: batch.column(self._names[index]) for new, index in self.positions.items()}
                rows = pa.RecordBatch.from_pydict(columns)
                rows.validate(full=True)  # the library takes offsets on trust
                if rows.num_rows:
                    table = pa.Table.from_batches([rows])
                    yield Chunk(RawTable(source, table, files=_Places(source, first)), first)
                    first += rows.num_rows

    # ------------------------------------------------------------------------------------------------- internals

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def _dataset(self) -> Any:
        """The files as a dataset; opened once in each process, as file systems are not shared by processes."""
        import pyarrow.dataset as pa_dataset  # which imports pandas; what only looks at a config does not need it

        if self._opened is None or self._opened[0] != os.getpid():
            assert self.data.train is not None
            system = remote.arrow_filesystem(self.data.train, self.place)
            opened = pa_dataset.dataset(self.files, format=self._options(), filesystem=system)
            fragments = {self._url(found.path): found for found in opened.get_fragments()}
            self._opened = os.getpid(), opened, fragments
        return self._opened[1]

    def _options(self) -> Any:
        import pyarrow.dataset as pa_dataset

        if self.format == "parquet":
            scan = pa_dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False
            )
            return pa_dataset.ParquetFileFormat(default_fragment_scan_options=scan)
        if self.format == "csv":
            suffix = _suffix(self.files[0])
            quote = self.data.quote or False
            parse = pa_csv.ParseOptions(
                delimiter=self.data.delimiter or ("," if suffix == "csv" else "\t"),
                quote_char=quote,
                double_quote=bool(quote),
                newlines_in_values=bool(quote),
            )
            names = self._header(parse)
            convert = pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
            )
            read = pa_csv.ReadOptions(block_size=BLOCK, use_threads=False)
            return pa_dataset.CsvFileFormat(parse, convert_options=convert, read_options=read)
        if self.format == "json":
            return pa_dataset.JsonFileFormat(read_options=pa_json.ReadOptions(block_size=BLOCK, use_threads=False))
        return "ipc"

    def _header(self, parse: Any) -> list[str]:
        """The names of the columns of the first file, all of which are read as text."""
        assert self.data.train is not None
        system = remote.arrow_filesystem(self.data.train, self.place)
        compression = "gzip" if self.files[0].lower().endswith(".gz") else None
        with system.open_input_stream(self.files[0], compression=compression) as stream:
            options = pa_csv.ReadOptions(block_size=BLOCK, use_threads=False)
            names: list[str] = pa_csv.open_csv(stream, options, parse).schema.names
            return names

    def _pieces_of(self, path: str) -> Iterator[Piece]:
        if self.format != "parquet":
            yield Piece(self._url(path))
            return
        with self._reading(self._url(path)):
            first = 0
            for group in self._fragment(self._url(path)).split_by_row_group():
                yield Piece(self._url(path), group.row_groups[0].id, first)
                first += group.row_groups[0].num_rows

    def _fragment(self, source: str) -> Any:
        _ = self._dataset
        assert self._opened is not None
        return self._opened[2][source]

    def _batches(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        fragment = self._fragment(piece.source)
        if piece.part is not None:
            fragment = fragment.subset(row_group_ids=[piece.part])
        names = list(dict.fromkeys(self._names[index] for index in self.positions.values()))
        yield from fragment.to_batches(
            schema=self._dataset.schema,
            columns=names,
            batch_size=ROWS_PER_CHUNK,
            batch_readahead=1,
            fragment_readahead=0,
            use_threads=False,
        )

    def _lines(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """A row for each line that is not blank."""
        lines: list[str] = []
        size = 0
        with remote.open_text(piece.source, self.place) as file:
            for line in iter(lambda: file.readline(BLOCK), ""):
                if text := line.strip("\r\n"):
                    lines.append(text)
                    size += len(text)
                if len(lines) == ROWS_PER_CHUNK or size > BLOCK:
                    yield pa.record_batch({TEXT_COLUMN: lines})
                    lines, size = [], 0
        if lines:
            yield pa.record_batch({TEXT_COLUMN: lines})

    def _url(self, path: str) -> str:
        return remote.with_scheme(path, self.data.train or "")

    def _format(self, path: str) -> str:
        return FORMATS[_suffix(path)]

    def _reading(self, source: str) -> Any:
        return remote.reading(source, reading, self.place)


class HubShards:
    """The shards of a Hub dataset (or of a local folder in the layout of one), streamed by ``datasets``."""

    counted = False

    def __init__(self, data: DataConfig, wanted: Wanted, place: str) -> None:
        self.data, self.wanted, self.place = data, wanted, place
        self._opened: tuple[int, HubSplit] | None = None
        self.source = self._split.source
        self.positions = wanted.resolve(self._split.names, self.source)
        self.pieces = [Piece(self.source, part) for part in range(self._split.num_shards)]

    @property
    def identity(self) -> list[Any]:
        """The dataset and its revision."""
        return [self.source, self.data.revision]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """The wanted columns of a shard, in chunks."""
        assert piece.part is not None
        first, source = 0, f"{self.source} shard {piece.part + 1}"
        for table in self._split.read(piece.part, self.positions, ROWS_PER_CHUNK):
            if table.num_rows:
                yield Chunk(RawTable(self.source, table, files=_Places(source, first)), first)
                first += table.num_rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def _split(self) -> HubSplit:
        if self._opened is None or self._opened[0] != os.getpid():
            assert self.data.name is not None
            assert self.data.train is not None
            split = HubSplit(
                self.data.name, self.data.train, self.place, subset=self.data.subset, revision=self.data.revision
            )
            self._opened = os.getpid(), split
        return self._opened[1]


class _Places(Sequence[str]):
    """The places of rows, for messages, made when they are looked up."""

    def __init__(self, source: str, first: int) -> None:
        self.source, self.first = source, first

    def __len__(self) -> int:
        raise AssertionError("places are looked up one by one")

    def __getitem__(self, row: Any) -> Any:
        return f"{self.source} row {self.first + row + 1}"


def _suffix(path: str) -> str:
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes if suffix.lower() != ".gz"]
    return suffixes[-1].removeprefix(".") if suffixes else ""


def head(data: DataConfig, wanted: Wanted, rows: int) -> pa.Table:
    """The wanted columns of the first rows; raises `UserError` as `open_shards` does."""
    shards, tables, count = open_shards(data, wanted), [], 0
    for piece in shards.pieces:
        for chunk in shards.read(piece):
            tables.append(chunk.raw.table)
            count += chunk.raw.table.num_rows
            if count >= rows:
                return _joined(tables).slice(0, rows)
    return _joined(tables)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")
