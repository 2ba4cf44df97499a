"""The pass over a table before it is streamed: rows are checked, counted, held out, and sampled."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.cache import Cache, Label, code_version
from eir_seq.config.column_types import ColumnType
from eir_seq.data.encoded import Progress
from eir_seq.data.readers.base import BadRow
from eir_seq.data.stream.table import HASHES, StreamedTable, Survey, sampled_shards
from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder
from eir_seq.randomness import Draw
from eir_seq.spool import Spool, content_hash

log = logging.getLogger(__name__)

FORMAT = 1
MOST_CLASSES = 100_000
MOST_SKIPPED = 10_000
"""Rows that were left out and are listed; the rest is counted."""
_KEY, _NUMBER, _PIECE = "__key", "__number", "__piece"


def surveyed(table: StreamedTable, drawn: Mapping[str, float], progress: Progress | None = None) -> Survey:
    """What is known of a table, from the cache where it has not changed since.

    Args:
        table: not yet counted.
        drawn: by held-out part, the fraction or number of rows.
        progress: called with the pieces that are read.

    Raises:
        UserError: rows cannot be read or used.
    """
    if not table.shards.counted:
        return _beginning(table)
    data = table.data
    uses = sorted(f"{use.column} {use.role} {use.type} {use.template}" for use in table.roles.uses)
    keys = "rename id group delimiter quote missing_labels on_bad_row split_seed fit_rows validation test file_dir"
    options = [getattr(data, key) for key in keys.split()]
    state = [FORMAT, code_version(StreamedTable, _Pass), table.shards.identity, uses, options]
    name = f"survey-{hashlib.sha256(repr(state).encode()).hexdigest()}"

    def build(folder: Path, renew: Callable[[], None]) -> Label:
        pieces = len(table.shards.pieces)

        def advance(piece: int) -> None:
            renew()
            if progress is not None:
                progress(f"reading {table.shards.source}", piece, pieces)

        found = _Pass(table, drawn).survey(advance)
        for part, rows in {"train": found.sample, **found.held}.items():
            with pa.OSFile(str(folder / f"{part}.arrow"), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows)
        (folder / "survey.json").write_text(json.dumps(found.describe()), encoding="utf-8")
        return Label("survey of a table", table.shards.source, found.table.num_rows)

    def read(folder: Path, mark: Any) -> tuple[Survey, Any]:
        return _read(folder, table, drawn), mark

    try:
        found = Cache(data.cache_dir or default_folder()).get(name, build, read)
    except OSError as error:
        log.warning("the survey of %s is not kept: %s", table.shards.source, error.strerror or error)
        with tempfile.TemporaryDirectory(prefix="eir_seq-") as spare:
            found = Cache(spare).get(name, build, read)
    assert found is not None, "all that is built is kept"
    _KEPT.append(found[1])
    return found[0]


_KEPT: list[Any] = []
"""Marks of surveys whose tables are mapped from the cache."""


def _read(folder: Path, table: StreamedTable, drawn: Mapping[str, float]) -> Survey:
    tables = {}
    for part in ("train", *drawn):
        with pa.memory_map(str(folder / f"{part}.arrow")) as file:
            tables[part] = pa.ipc.open_file(file).read_all()
    found = json.loads((folder / "survey.json").read_text(encoding="utf-8"))
    counted = replace(table, bounds=dict(found["bounds"]), counts=tuple(found["counts"]), whole=tuple(found["whole"]))
    skipped = tuple(BadRow(*row) for row in found["skipped"])
    return Survey(counted, tables.pop("train"), tables, found["digest"], skipped)


class _Pass:
    """Reads every row once."""

    def __init__(self, table: StreamedTable, drawn: Mapping[str, float]) -> None:
        self.table, self.drawn = table, drawn
        self.numbers = {name: int(part) for name, part in drawn.items() if isinstance(part, int)}
        self.lowest = _Lowest(sum(self.numbers.values()))
        """Of parts that are numbers of rows: those with the lowest hashes."""
        self.held = {name: Spool(table.data.cache_dir) for name in drawn if name not in self.numbers}
        self.sample = _Lowest(table.data.fit_rows)
        self.classes = _Classes(table)
        self.draw = Draw(table.data.split_seed)

    def survey(self, advance: Callable[[int], None]) -> Survey:
        """Raises `UserError` where rows cannot be read or used."""
        table = self.table
        digest, left_out = hashlib.sha256(), 0
        skipped: list[BadRow] = []
        counts, whole = np.zeros(len(table.shards.pieces), np.int64), []
        empty: dict[str, pa.Table] = {}
        for piece in range(len(counts)):
            rows = 0
            for chunk in table.shards.read(table.shards.pieces[piece]):
                checked, numbers = table.checked(chunk, piece)
                rows += chunk.raw.table.num_rows
                left_out += len(checked.skipped)
                skipped += checked.skipped[: MOST_SKIPPED - len(skipped)]
                digest.update(content_hash(checked.table).encode())
                extra = {_NUMBER: numbers, _PIECE: np.full(len(numbers), piece)}
                marked = checked.table
                for name, values in extra.items():
                    marked = marked.append_column(name, pa.array(values, pa.int64()))
                empty = empty or {name: marked.slice(0, 0) for name in self.drawn}
                counts[piece] += self._sort(marked)
                advance(piece)
            whole.append(bool(counts[piece] == rows))
        held = {name: _table(spool, empty[name]) for name, spool in self.held.items()}
        bounds = dict(table.bounds)
        if self.numbers:
            held, bounds = self._take_numbers(counts, whole)
        if left_out > len(skipped):
            log.warning("%s rows were left out, of which %s are listed", f"{left_out:,}", f"{len(skipped):,}")
        columns = table.columns
        taken = {number for rows in held.values() for number in rows.column(_NUMBER).to_pylist()}
        sample = self.classes.completed(_without(self.sample.table(), taken), taken).select(columns)
        held = {name: rows.select(columns) for name, rows in held.items()}
        found = replace(table, bounds=bounds, counts=tuple(counts.tolist()), whole=tuple(whole))
        return Survey(found, sample, held, digest.hexdigest(), tuple(skipped))

    def _sort(self, rows: pa.Table) -> int:
        """Give rows to the part that they are of; returns how many are trained on."""
        if self.drawn:
            hashes = self.table.hashes(rows)
            below = 0
            for name, bound in self.table.bounds.items():
                mask = (hashes >= below) & (hashes < bound)
                for batch in rows.filter(pa.array(mask)).to_batches():
                    self.held[name].add(batch)
                below = bound
            self.lowest.add(hashes, rows)
            rows = rows.filter(pa.array(hashes >= below)) if below else rows
        if rows.num_rows:
            keys = self.draw.uniforms(rows.column(_NUMBER).to_numpy(), 1, "fit")[:, 0]
            self.sample.add((keys * HASHES).astype(np.int64), rows)
            self.classes.add(rows)
        return int(rows.num_rows)

    def _take_numbers(self, counts: NDArray[np.int64], whole: list[bool]) -> tuple[dict[str, pa.Table], dict[str, int]]:
        """Hold numbers of rows out: those with the lowest hashes."""
        wanted = sum(self.numbers.values())
        if wanted >= counts.sum():
            place = f"data.{next(iter(self.numbers))}"
            message = f"{wanted} rows cannot be drawn of the {counts.sum()}: at least one must stay for training"
            raise UserError(Fault(place, message))
        rows = self.lowest.table()
        hashes = np.sort(rows.column(_KEY).to_numpy())
        held, bounds, below, start = {}, {}, -1, 0
        for name, number in self.numbers.items():
            start += number
            last = int(hashes[start - 1])
            keys = rows.column(_KEY).to_numpy()
            held[name] = rows.filter(pa.array((keys > below) & (keys <= last)))
            bounds[name], below = last + 1, last
        for piece in rows.column(_PIECE).to_pylist():
            counts[piece] -= 1
            whole[piece] = False
        return held, bounds


class _Lowest:
    """The rows with the lowest keys, a given number of them."""

    def __init__(self, count: int) -> None:
        self.count, self.bound = count, HASHES - 1
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(self, keys: NDArray[np.int64], rows: pa.Table) -> None:
        """Take rows, of which those stay that are needed."""
        chosen = keys < self.bound
        if not self.count or not chosen.any():
            return
        found = rows.filter(pa.array(chosen)).append_column(_KEY, pa.array(keys[chosen]))
        self._tables.append(found)
        self._rows += found.num_rows
        if self._rows > 2 * self.count:
            self._shrink()

    def table(self) -> pa.Table:
        """The rows, in the order in which they came."""
        self._shrink()
        return self._tables[0]

    def _shrink(self) -> None:
        rows = pa.concat_tables(self._tables, promote_options="permissive")
        if rows.num_rows > self.count:
            keys = rows.column(_KEY).to_numpy()
            kept = np.sort(np.argpartition(keys, self.count - 1)[: self.count])
            rows = rows.take(pa.array(kept)).combine_chunks()
            self.bound = int(rows.column(_KEY).to_numpy().max())
        self._tables, self._rows = [rows], rows.num_rows


class _Classes:
    """A row of each class and tag: a sample may lack the rare ones."""

    def __init__(self, table: StreamedTable) -> None:
        self.columns = table.roles.of("target", ColumnType.CATEGORY)
        self.tags = table.roles.of("target", ColumnType.LIST)
        self._seen: dict[str, set[Any]] = {name: set() for name in (*self.columns, *self.tags)}
        self._rows: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Note the classes of some rows; raises `UserError` where they are too many."""
        first: set[int] = set()
        for name, seen in self._seen.items():
            for label in _labels(rows, name, tags=name in self.tags) - seen:
                seen.add(label)
                first.add(_row_of(rows, name, label, tags=name in self.tags))
            if len(seen) > MOST_CLASSES:
                place = (self.columns | self.tags)[name]
                raise UserError(Fault(place, f"{name!r} has more than {MOST_CLASSES:,} classes"))
        if first:
            self._rows.append(rows.take(pa.array(sorted(first))))

    def completed(self, sample: pa.Table, without: set[int]) -> pa.Table:
        """The sample with a row of each class that it lacks; `without` are numbers of rows that are held out."""
        lacking = {name: seen - _labels(sample, name, tags=name in self.tags) for name, seen in self._seen.items()}
        if not any(lacking.values()):
            return sample
        rows = _without(pa.concat_tables(self._rows, promote_options="permissive"), without)
        chosen = {
            _row_of(rows, name, label, tags=name in self.tags)
            for name, labels in lacking.items()
            for label in labels & _labels(rows, name, tags=name in self.tags)
        }
        added = rows.take(pa.array(sorted(chosen), pa.int64()))
        return pa.concat_tables([sample, added], promote_options="permissive")


def _labels(rows: pa.Table, name: str, *, tags: bool) -> set[Any]:
    found = pc.unique(rows.column(name)).drop_null().to_pylist()
    return {tag for cell in found for tag in json.loads(cell)} if tags else set(found)


def _row_of(rows: pa.Table, name: str, label: Any, *, tags: bool) -> int:
    """The first row with a class or a tag."""
    if not tags:
        return int(pc.index(rows.column(name), label).as_py())
    cells = rows.column(name).to_pylist()
    return next(row for row, cell in enumerate(cells) if cell is not None and label in json.loads(cell))


def _without(rows: pa.Table, numbers: set[int]) -> pa.Table:
    """The rows but for those with some numbers."""
    if not numbers:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows.column(_NUMBER), pa.array(sorted(numbers), pa.int64()))))


def _table(spool: Spool, empty: pa.Table) -> pa.Table:
    return spool.table() if spool.filled else empty


def _beginning(table: StreamedTable) -> Survey:
    """The sample of a table whose rows are not counted: the beginning of some of its shards."""
    pieces, found, rows = sampled_shards(table), [], 0
    for place, piece in enumerate(pieces):
        wanted = -(-(table.data.fit_rows - rows) // (len(pieces) - place))
        loaded = _first(table, piece, wanted)
        found += loaded
        rows += sum(part.num_rows for part in loaded)
    if not rows:
        raise UserError(Fault("data.train", f"{table.shards.source} has no rows"))
    sample = pa.concat_tables(found, promote_options="permissive").combine_chunks()
    digest = hashlib.sha256(repr([table.shards.identity, content_hash(sample)]).encode()).hexdigest()
    return Survey(table, sample, {}, digest)


def _first(table: StreamedTable, piece: int, rows: int) -> list[pa.Table]:
    found: list[pa.Table] = []
    for part in table.parts(piece):
        if rows <= 0:
            break
        found.append(part.load()[0].slice(0, rows))
        rows -= found[-1].num_rows
    return found
