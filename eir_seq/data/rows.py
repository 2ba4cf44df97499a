"""What each column is for, and whether every row can be used: ids, texts, classes, numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eir_seq.config.columns import ID as ID
from eir_seq.config.columns import Columns, columns_of
from eir_seq.config.outputs import TokenClassificationOutputConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.columns import as_cells, as_text, by_value, faulty_texts, null_rows
from eir_seq.data.columns import text_fault as text_fault
from eir_seq.data.readers.base import BadRow, FaultLog, RawTable
from eir_seq.data.tags import check_tags
from eir_seq.errors import UserError
from eir_seq.modalities.base import Cells, FittedModality, Modality
from eir_seq.modalities.cells import InputCells, write_cell
from eir_seq.spool import ROWS_PER_BATCH, filtered, forget_pages


@dataclass(frozen=True)
class Roles(Columns):
    """What the columns are for, and what the inputs demand of them.

    `prompts` are texts that may be empty or absent, to be written. `inputs` know what is demanded of `cells`; `tagged`
    has the input whose words a column of tags labels.
    """

    inputs: tuple[Cells, ...] = ()
    tagged: Mapping[str, InputCells] = field(default_factory=dict)
    prompts: frozenset[str] = frozenset()


def column_roles(config: ExperimentConfig, inputs: Mapping[str, Modality | FittedModality]) -> Roles:
    """The roles of the columns that an experiment names; raises `UserError` where one column has two of them."""
    columns = columns_of(config.data, config.inputs, config.outputs)
    if faults := columns.clashes():
        raise UserError(*faults)
    tagged: dict[str, InputCells] = {}
    for name, output in config.outputs.items():
        if isinstance(output, TokenClassificationOutputConfig):
            words = inputs[config.token_inputs[name]].cells
            assert isinstance(words, InputCells), "rules see to it"
            tagged[output.column] = words
    demanding = tuple(modality.cells for modality in inputs.values() if modality.cells.is_demanding)
    return Roles(**vars(columns), inputs=demanding, tagged=tagged)


@dataclass(frozen=True)
class CheckedRows:
    """The usable rows of one file: column `id`, texts and classes as text, cells as JSON, numbers as float64.

    `skipped` are those that were left out, in the order of the file; `positions` is the row of the file, counted from 0
    and unreadable ones included, in which each of them stands.
    """

    table: pa.Table
    skipped: tuple[BadRow, ...]
    positions: tuple[int, ...]
    raw: RawTable


def check_rows(
    raw: RawTable,
    roles: Roles,
    *,
    skip_bad: bool,
    missing_labels: Sequence[str],
    id_prefix: str,
    need_targets: bool,
    folder: str | None = None,
) -> CheckedRows:
    """The rows of a file that can be used, every value in the type of its role.

    Rows without text or label are refused, or with `skip_bad` left out and listed. Without `need_targets` a missing
    label is a null. `folder`: where tables are kept that are too large for memory. Raises `UserError` with all faults
    of the file.
    """
    faults = FaultLog()
    columns: dict[str, pa.ChunkedArray] = {}
    num_rows = raw.table.num_rows
    reasons: dict[int, list[str]] = {}
    nothing = pa.chunked_array([pa.nulls(num_rows, pa.string())])

    def convert(name: str, place: str, *, cells: bool = False, whole_numbers_only: bool = False) -> Any:
        """The column as text; None where it cannot be."""
        try:
            values = raw.table.column(name)
            return as_cells(values) if cells else as_text(values, whole_numbers_only=whole_numbers_only)
        except TypeError as error:
            faults.add(f"type of {name!r}", place, f"column {name!r} of {raw.source} holds {error}")
            return None

    if roles.id is None:
        numbers = pa.array(np.arange(1, num_rows + 1)).cast(pa.string())
        ids = pa.chunked_array([pc.binary_join_element_wise(id_prefix, numbers, "")])
    else:
        ids = convert(roles.id, "data.id", whole_numbers_only=True)
        if ids is not None:
            _check_ids(ids, raw, roles.id, faults)
    for name, place in roles.texts.items():
        if name in roles.prompts and name not in raw.table.column_names:
            columns[name] = nothing.fill_null("")
            continue
        texts = convert(name, place, whole_numbers_only=True)
        if texts is None:
            continue
        if name in roles.prompts:
            columns[name] = texts.fill_null("") if texts.null_count else texts
            continue
        columns[name] = texts
        for row, reason in faulty_texts(texts):
            reasons.setdefault(row, []).append(f"{name!r} {reason}")
    for name, place in roles.cells.items():
        columns[name] = convert(name, place, cells=True)
    if roles.inputs and not faults:
        columns |= _check_cells(raw, roles, columns, reasons)
    for name, place in roles.groups.items():
        if name in raw.table.column_names and (groups := convert(name, place)) is not None:
            columns[name] = groups
            for row in null_rows(pc.if_else(pc.equal(groups, ""), None, groups)).tolist():
                faults.add(f"missing {name!r}", raw.place(row), f"{name!r} is missing ({place} needs it)")
    for name, place in roles.targets.items():
        if name not in raw.table.column_names:
            columns[name] = nothing
            continue
        given = convert(name, place, cells=name in roles.tags)
        if given is None:
            continue
        values = _target(given, name, roles, columns, missing_labels, reasons)
        columns[name] = values
        for row in null_rows(values).tolist() if need_targets else ():
            if row not in reasons:
                label = given[row].as_py()
                marker = f" ({label!r} means that: data.missing_labels)" if label else ""
                why = text_fault(label) if name in roles.written else f"has no label{marker}"
                reasons[row] = [f"{name!r} {why}"]
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
    return CheckedRows(table, tuple(row for _, row in skipped), tuple(position for position, _ in skipped), raw)


def _target(
    given: pa.ChunkedArray,
    name: str,
    roles: Roles,
    columns: Mapping[str, pa.ChunkedArray],
    missing_labels: Sequence[str],
    reasons: dict[int, list[str]],
) -> pa.ChunkedArray:
    """The values of a target, null where there is none."""
    if name in roles.written:  # "NA" or "None" may be all that a text says
        unusable = np.zeros(len(given), bool)
        unusable[[row for row, _ in faulty_texts(given)]] = True
        return pc.if_else(pa.array(unusable), None, given) if unusable.any() else given
    markers = frozenset(missing_labels)
    values = by_value(given, lambda value: None if value.strip() in markers else value, pa.string())
    if name in roles.tags:
        words = roles.tagged[name]
        texts = columns.get(words.config.column)
        if texts is None:  # it is of a type that cannot be read
            return values
        chunks, start = [], 0
        for batch in pa.table({"tags": values, "words": texts}).to_batches(max_chunksize=ROWS_PER_BATCH):
            cells = batch.to_pydict()
            tags = check_tags(cells["tags"], name, words, cells["words"], reasons, start)
            chunks.append(pa.array(tags, pa.string()))
            start += batch.num_rows
            forget_pages()
        return pa.chunked_array(chunks, pa.string())
    return _numbers(values, name, reasons) if name in roles.numbers else values


def _kind(reason: str, roles: Roles) -> str:
    """What faults are counted by: the reason but for positions, or the column where reasons name values."""
    column = next(
        (repr(name) for name in (*roles.cells, *roles.tags, *roles.numbers) if reason.startswith(repr(name))), None
    )
    return column or reason.split(" at position")[0]


def _check_cells(
    raw: RawTable, roles: Roles, columns: Mapping[str, pa.ChunkedArray], reasons: dict[int, list[str]]
) -> dict[str, pa.ChunkedArray]:
    """Note what is wrong with cells; gives the columns in which names of files became those of files found."""
    folder = Path(raw.source) if os.path.isdir(raw.source) else Path(raw.source).parent
    names = dict.fromkeys(name for cells in roles.inputs for name in (cells.config.column, *cells.places))
    found: dict[str, list[pa.Array]] = {name: [] for cells in roles.inputs for name in cells.resolved}
    start = 0
    for batch in pa.table({name: columns[name] for name in names}).to_batches(max_chunksize=ROWS_PER_BATCH):
        given = batch.to_pydict()
        changed = {name: list(given[name]) for name in found}
        for cells in roles.inputs:
            for row in range(batch.num_rows):
                values, problems = {}, []
                for name in cells.places:
                    try:
                        values[name] = cells.read(name, given[name][row], folder)
                    except ValueError as error:
                        problems.append(f"{name!r} {error}")
                text = given[cells.config.column][row]
                if not problems and (cells.config.column in roles.prompts or text_fault(text) is None):
                    problems = list(cells.problems(text, values))
                if problems:
                    reasons.setdefault(start + row, []).extend(problems)
                    continue
                for name in cells.resolved:
                    changed[name][row] = write_cell(values[name])
        for name, cell_texts in changed.items():
            found[name].append(pa.array(cell_texts, pa.string()))
        start += batch.num_rows
        forget_pages()
    return {name: pa.chunked_array(parts, pa.string()) for name, parts in found.items()}


def _check_ids(ids: pa.ChunkedArray, raw: RawTable, column: str, faults: FaultLog) -> None:
    for row, reason in faulty_texts(ids):
        if "NUL" not in reason:
            faults.add("missing ids", raw.place(row), f"the id ({column!r}) is missing")
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return
    found = pc.value_counts(ids)
    found = found.filter(pc.greater(found.field("counts"), 1)).to_pylist()
    repeated = {item["values"]: item["counts"] for item in found if item["values"]}
    if repeated:
        shown = ", ".join(f"{value!r} {count} times" for value, count in list(repeated.items())[:3])
        message = f"{raw.source}: {len(repeated)} ids occur more than once: {shown}" + (
            ", ..." if len(repeated) > 3 else ""
        )
        faults.add("repeated ids", "data.id", message)


def _numbers(values: pa.ChunkedArray, column: str, reasons: dict[int, list[str]]) -> pa.ChunkedArray:
    """Texts as finite numbers; notes the rows of those that are none."""
    numbers = by_value(values, _number, pa.float64())
    for row in np.flatnonzero(~np.isfinite(numbers.fill_null(0.0).to_numpy())).tolist():
        value = values[row].as_py()
        hint = " (a decimal comma? write 1.5)" if value.count(",") == 1 and "." not in value else ""
        if "," in value and not hint and math.isfinite(_number(value.replace(",", ""))):
            hint = f" (separators of thousands? write {value.replace(',', '')[:40]})"
        kind = "infinite" if math.isinf(numbers[row].as_py()) else "not a number"
        reasons.setdefault(row, []).append(f"{column!r} is {value[:40]!r}, {kind}{hint}")
    return numbers


def _number(value: str) -> float:
    try:
        return float(value) if "_" not in value else math.nan
    except ValueError:
        return math.nan
