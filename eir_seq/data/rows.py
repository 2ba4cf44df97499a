"""Whether every row can be used: ids, texts, classes, numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import ID as ID
from eir_seq.config.template import Template
from eir_seq.data.cell_checks import check_cells
from eir_seq.data.columns import (
    as_booleans,
    as_cells,
    as_numbers,
    as_text,
    faulty_texts,
    null_rows,
    number_text,
    without_markers,
)
from eir_seq.data.columns import text_fault as text_fault
from eir_seq.data.increasing import Increasing
from eir_seq.data.missing import without_blanks
from eir_seq.data.readers.base import BadRow, FaultLog, RawTable
from eir_seq.data.roles import Roles
from eir_seq.data.tags import check_tags
from eir_seq.errors import Fault, UserError
from eir_seq.spool import ROWS_PER_BATCH, Spool, filtered, forget_pages

if TYPE_CHECKING:
    pass

T = TypeVar("T")
FILES = (ColumnType.FILE, ColumnType.ARRAY)
"""What is no label where it is a target."""


@dataclass(frozen=True)
class CheckedRows:
    """The usable rows of one file: column `id`, texts and classes as text, cells as JSON, numbers as float64.

    `skipped` are those that were left out, in the order of the file; `positions` are their row numbers in the
    file, counted from 0, unreadable rows included.
    """

    table: pa.Table
    skipped: tuple[BadRow, ...]
    positions: tuple[int, ...]
    raw: RawTable
    kept: Sequence[int]
    """Of the readable rows, those that can be used."""


def check_rows(
    raw: RawTable,
    roles: Roles,
    *,
    skip_bad: bool,
    missing_labels: Sequence[str],
    id_prefix: str,
    need_targets: bool,
    folder: str | None = None,
    first: int = 0,
) -> CheckedRows:
    """The rows of a file that can be used, every value in the type of its role.

    What rows may lack (`roles.missing`) is null; without `need_targets` whole columns of it may be absent. Other rows
    without text or label are refused, or with `skip_bad` left out and listed. Without `need_targets` a missing
    label is a null. `folder`: where tables are kept that are too large for memory. `first`: rows of the file that
    precede these. Raises `UserError` with all faults of the file.
    """
    raw = filled(raw, roles.templates)
    faults = FaultLog()
    columns: dict[str, pa.ChunkedArray] = {}
    num_rows = raw.table.num_rows
    reasons: dict[int, list[str]] = {}
    nothing = pa.chunked_array([pa.nulls(num_rows, pa.string())])

    markers = frozenset(missing_labels)
    empty: dict[str, dict[int, str]] = {}
    """By column of inputs: the rows without a value, where rows may lack inputs."""

    def convert(name: str, place: str, change: Callable[[pa.ChunkedArray], T]) -> T | None:
        """The column changed; None where its type does not allow that."""
        try:
            return change(raw.table.column(name))
        except TypeError as error:
            faults.add(f"type of {name!r}", place, f"column {name!r} of {raw.source} holds {error}")
            return None

    def note(name: str, found: Mapping[int, str] | Iterable[tuple[int, str]]) -> None:
        for row, reason in found.items() if isinstance(found, Mapping) else found:
            reasons.setdefault(row, []).append(f"{name!r} {reason}")

    if roles.id is None:
        ids = _row_numbers(id_prefix, range(first + 1, first + num_rows + 1), folder)
    else:
        ids = convert(roles.id, "data.id", text_of)
        if ids is not None:
            _check_ids(ids, raw, roles.id, faults)
    for name, uses in roles.by_column("input").items():
        kind, place = uses[0].type, uses[0].place
        if name in roles.prompts:
            texts = nothing if name not in raw.table.column_names else convert(name, place, text_of)
            columns[name] = texts if texts is None else texts.fill_null("")
        elif roles.missing is not None and not need_targets and name not in raw.table.column_names:
            columns[name] = nothing
            if not all(use.may_miss for use in uses):
                empty[name] = dict.fromkeys(range(num_rows), "is missing")
        elif kind.is_structured:
            columns[name] = cells = convert(name, place, as_cells)
            if roles.missing is not None and cells is not None:
                columns[name] = cells = without_blanks(cells)
                empty[name] = dict.fromkeys(null_rows(cells).tolist(), "is missing")
        elif kind is ColumnType.TEXT:
            columns[name] = texts = convert(name, place, text_of)
            found = {} if texts is None else dict(faulty_texts(texts))
            if roles.missing is not None and texts is not None:
                columns[name] = texts = without_blanks(texts)
                empty[name] = {row: found.pop(row) for row in null_rows(texts).tolist()}
            note(name, found)
        elif (values := convert(name, place, partial(_typed, kind, markers))) is not None:
            columns[name], wrong = values
            note(name, wrong)
            if all(use.may_miss for use in uses):
                continue
            lacking = {row: "is missing" for row in null_rows(columns[name]).tolist() if row not in wrong}
            if roles.missing is None:
                note(name, lacking)
            else:
                empty[name] = lacking
    if roles.missing is not None and not faults:
        for name, row, reason in roles.missing.unusable(pa.table(dict(columns)), empty):
            note(name, {row: reason})
    if roles.checking and not faults:
        columns |= check_cells(raw, roles, roles.checking, columns, reasons, folder)
    for name, place in roles.of("group").items():
        if name in raw.table.column_names and (groups := convert(name, place, as_text)) is not None:
            columns[name] = groups
            for row in null_rows(pc.if_else(pc.equal(groups, ""), None, groups)).tolist():
                faults.add(f"missing {name!r}", raw.place(row), f"{name!r} is missing ({place} needs it)")
    for name, uses in roles.by_column("target").items():
        kind, place = uses[0].type, uses[0].place
        if name in roles.of("input"):
            continue  # checked as such
        if name not in raw.table.column_names:
            columns[name] = nothing
            continue
        converted = convert(name, place, partial(_targets, kind, markers))
        if converted is None:
            continue
        values, wrong = converted
        if name in roles.tagged:
            values = _tags(values, name, roles, columns, reasons)
        columns[name] = values
        note(name, wrong)
        needed = need_targets and roles.missing is None and not all(use.may_miss for use in uses)
        for row in null_rows(values).tolist() if needed else ():
            if row not in reasons:
                label = raw.table.column(name)[row].as_py()
                reasons[row] = [f"{name!r} {_absence(kind, label)}"]
    if not faults:
        for row, reason in _faulty_targets(roles, columns):
            reasons.setdefault(row, []).append(reason)
    if roles.restoring and not faults:
        columns |= check_cells(raw, roles, roles.restoring, columns, reasons, folder)
    if roles.missing is not None and need_targets and not faults:
        for row in np.flatnonzero(~roles.missing.has_target(pa.table(dict(columns)))).tolist():
            if row not in reasons:
                reasons[row] = ["has no target of any output"]
    if not skip_bad:
        hint = "; data.on_bad_row=skip leaves such rows out"
        for row, reason in ((row, reason) for row, found in sorted(reasons.items()) for reason in found):
            faults.add(_kind(reason, roles), raw.place(row), reason + hint)
            hint = ""
    elif len(reasons) == num_rows:
        faults.add("no rows", "", f"{raw.source}: no row can be used ({next(iter(reasons.values()))[0]})")
    faults.raise_any()
    keep = np.ones(num_rows, bool)
    keep[list(reasons)] = False
    bad = [BadRow(ids[row].as_py(), raw.place(row), found[0], before=row) for row, found in sorted(reasons.items())]
    unread = [row.before + number for number, row in enumerate(raw.broken)]
    later = np.array([row.before for row in raw.broken])
    unusable = [row.before + int((later <= row.before).sum()) for row in bad]
    skipped = sorted(zip([*unread, *unusable], [*raw.broken, *bad], strict=True), key=lambda found: found[0])
    table = filtered(pa.table({ID: ids, **columns}), keep, folder)
    left_out, positions = tuple(row for _, row in skipped), tuple(position for position, _ in skipped)
    return CheckedRows(table, left_out, positions, raw, Increasing.where(keep))


def filled(raw: RawTable, templates: Mapping[str, Template]) -> RawTable:
    """The table with the columns that are made of others; without those of which it has no part.

    Raises:
        UserError: a part is no text.
    """
    table, faults = raw.table, []
    for name, template in templates.items():
        parts = []
        for column in template.columns:
            try:
                parts.append(as_text(table.column(column)) if column in table.column_names else None)
            except TypeError as error:
                faults.append(Fault(raw.source, f"column {column!r}, of which texts are made, holds {error}"))
                parts.append(None)
        if any(part is not None for part in parts):
            nothing = pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
            rows = pa.table([part if part is not None else nothing for part in parts], list(template.columns))
            texts = [
                pa.array(map(template.filled, zip(*batch.to_pydict().values(), strict=True)), pa.string())
                for batch in rows.to_batches(max_chunksize=ROWS_PER_BATCH)
            ]
            table = table.append_column(name, pa.chunked_array(texts, pa.string()))
    if faults:
        raise UserError(*faults)
    return replace(raw, table=table)


def text_of(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts, where fractions are no text."""
    return as_text(values, whole_numbers_only=True)


def _typed(
    kind: ColumnType, markers: Collection[str], values: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, Mapping[int, str]]:
    """Categories, numbers or truth values, null where they are missing; and what is wrong with others, by row."""
    if kind is ColumnType.NUMBER:
        return as_numbers(values, markers)
    if kind is ColumnType.BOOLEAN:
        return as_booleans(values, markers)
    assert kind is ColumnType.CATEGORY, kind
    return without_markers(as_text(values), markers), {}


def _targets(
    kind: ColumnType, markers: Collection[str], values: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, Mapping[int, str]]:
    """The values of a target as `_typed` gives them; of a text, "NA" or "None" may be all that it says."""
    if kind is ColumnType.TEXT:
        texts = as_text(values)
        unusable = np.zeros(len(texts), bool)
        unusable[[row for row, _ in faulty_texts(texts)]] = True
        return (pc.if_else(pa.array(unusable), None, texts) if unusable.any() else texts), {}
    if kind.is_structured:
        return without_markers(as_cells(values), markers), {}
    return _typed(kind, markers, values)


def _absence(kind: ColumnType, label: Any) -> str:
    """Why a row has no target, whose cell holds `label`."""
    if kind is ColumnType.TEXT:
        return str(text_fault(label))
    shown = label if isinstance(label, str) else number_text(label) if isinstance(label, float) else label
    marker = f" ({str(shown)!r} means that: data.missing_labels)" if shown not in (None, "") else ""
    return f"{'is missing' if kind in FILES else 'has no label'}{marker}"


def _tags(
    given: pa.ChunkedArray,
    name: str,
    roles: Roles,
    columns: Mapping[str, pa.ChunkedArray | None],
    reasons: dict[int, list[str]],
) -> pa.ChunkedArray:
    """Lists of tags, null if there is none; notes those that do not fit the words of their row."""
    words = roles.tagged[name]
    texts = columns.get(words.column)
    if texts is None:  # it is of a type that cannot be read
        return given
    if roles.missing is not None and texts.null_count:
        given = pc.if_else(texts.is_valid(), given, None)
    chunks, start = [], 0
    for batch in pa.table({"tags": given, "words": texts}).to_batches(max_chunksize=ROWS_PER_BATCH):
        cells = batch.to_pydict()
        tags = check_tags(cells["tags"], name, words, cells["words"], reasons, start)
        chunks.append(pa.array(tags, pa.string()))
        start += batch.num_rows
        forget_pages()
    return pa.chunked_array(chunks, pa.string())


def _kind(reason: str, roles: Roles) -> str:
    """What faults are counted by: the reason but for positions, or the column where reasons name values."""
    valued = (use.column for use in roles.uses if use.type.is_structured or use.type is ColumnType.NUMBER)
    return next((repr(name) for name in valued if reason.startswith(repr(name))), reason.split(" at position")[0])


def _faulty_targets(roles: Roles, columns: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[int, str]]:
    """Rows whose values outputs cannot use, and why."""
    outputs = [output for output in roles.outputs if columns.keys() >= set(output.checked_columns)]
    names = dict.fromkeys(name for output in outputs for name in output.checked_columns)
    start = 0
    for batch in pa.table({name: columns[name] for name in names}).to_batches(max_chunksize=ROWS_PER_BATCH):
        values = batch.to_pydict()
        for output in outputs:
            yield from ((start + row, reason) for row, reason in output.faulty_rows(values))
        start += batch.num_rows
        forget_pages()


def _row_numbers(prefix: str, numbers: range, folder: str | None) -> pa.ChunkedArray:
    """Numbers as ids, made and kept in parts."""
    spool = Spool(folder)
    for start in range(0, max(1, len(numbers)), ROWS_PER_BATCH):
        texts = pa.array(numbers[start : start + ROWS_PER_BATCH], pa.int64()).cast(pa.string())
        spool.add(pa.record_batch({ID: pc.binary_join_element_wise(prefix, texts, "")}))
    return spool.table().column(ID)


def _check_ids(ids: pa.ChunkedArray, raw: RawTable, column: str, faults: FaultLog) -> None:
    for row, reason in faulty_texts(ids):
        if "NUL" not in reason:
            faults.add("missing ids", raw.place(row), f"the id ({column!r}) is missing")
    found = pc.value_counts(_maybe_repeated(ids))
    found = found.filter(pc.greater(found.field("counts"), 1)).to_pylist()
    repeated = {item["values"]: item["counts"] for item in found if item["values"]}
    if repeated:
        shown = ", ".join(f"{value!r} {count} times" for value, count in list(repeated.items())[:3])
        message = f"{raw.source}: {len(repeated)} ids occur more than once: {shown}" + (
            ", ..." if len(repeated) > 3 else ""
        )
        faults.add("repeated ids", "data.id", message)


def _maybe_repeated(ids: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The ids that may be there more than once, in order, by hashes of 64 bits: a table of all ids would be large."""
    ordered = hashes_of(ids)
    ordered.sort()
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    return ids.filter(pa.array(np.isin(hashes_of(ids), repeated))) if len(repeated) else ids[:0]


def hashes_of(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """A hash of 64 bits of each text, which is another one in each process, ``(texts,)``."""
    hashes, start = np.empty(len(texts), np.int64), 0
    for chunk in texts.chunks:
        hashes[start : start + len(chunk)] = [*map(hash, chunk.to_pylist())]
        start += len(chunk)
        forget_pages()
    return hashes
