"""What each column is for, and whether every row can be used: ids, texts, classes, numbers."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eir_seq.config.columns import ID as ID
from eir_seq.config.columns import columns_of
from eir_seq.config.outputs import TokenClassificationOutputConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.readers.base import BadRow, FaultLog, RawTable
from eir_seq.data.tags import check_tags
from eir_seq.errors import UserError
from eir_seq.modalities.base import Cells, FittedModality, Modality
from eir_seq.modalities.cells import InputCells, write_cell


@dataclass(frozen=True)
class Roles:
    """What the columns are for; each mapping is from a column to the config key that names it.

    `prompts` are texts that may be empty or absent, to be written. `cells` are columns of lists, objects and file
    names; `inputs` know what is demanded of them. `tags` are columns
    with a list per row, one tag per word of the input that `tagged` has for the column. `written` are texts that are
    targets.
    """

    id: str | None
    texts: Mapping[str, str]
    classes: Mapping[str, str]
    numbers: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Cells, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    tagged: Mapping[str, InputCells] = field(default_factory=dict)
    prompts: frozenset[str] = frozenset()
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> dict[str, str]:
        """Classes, numbers, tags and texts to be written."""
        return {**self.classes, **self.numbers, **self.tags, **self.written}

    @property
    def places(self) -> dict[str, str]:
        """All columns that a file must have; the id first."""
        named = {self.id: "data.id"} if self.id else {}
        return {**named, **self.groups, **self.targets, **self.texts, **self.cells}


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
    return Roles(
        columns.id,
        columns.texts,
        columns.classes,
        columns.numbers,
        columns.groups,
        columns.cells,
        tuple(modality.cells for modality in inputs.values() if modality.cells.is_demanding),
        columns.tags,
        tagged,
        written=columns.written,
    )


@dataclass(frozen=True)
class CheckedRows:
    """The usable rows of one file: column `id`, texts and classes as text, cells as JSON, numbers as float64."""

    table: pa.Table
    places: Sequence[str]
    skipped: tuple[BadRow, ...]
    raw: RawTable


def check_rows(
    raw: RawTable, roles: Roles, *, skip_bad: bool, missing_labels: Sequence[str], id_prefix: str, need_targets: bool
) -> CheckedRows:
    """The rows of a file that can be used, every value in the type of its role.

    Rows without text or label are refused, or with `skip_bad` left out and listed. Without `need_targets` a missing
    label is a null. Raises `UserError` with all faults of the file.
    """
    faults = FaultLog()
    columns: dict[str, pa.ChunkedArray] = {}
    num_rows = raw.table.num_rows
    reasons: dict[int, list[str]] = {}

    def convert(name: str, place: str, whole_numbers_only: bool) -> list[Any]:
        try:
            values = raw.table.column(name)
            listed = name in roles.tags
            columns[name] = as_cells(values) if listed else as_text(values, whole_numbers_only=whole_numbers_only)
        except TypeError as error:
            faults.add(f"type of {name!r}", place, f"column {name!r} of {raw.source} holds {error}")
            return []
        return list(columns[name].to_pylist())

    if roles.id is None:
        ids = [f"{id_prefix}{row}" for row in range(1, num_rows + 1)]
    else:
        ids = convert(roles.id, "data.id", True)
        columns.pop(roles.id, None)
        _check_ids(ids, raw, roles.id, faults)
    for name, place in roles.texts.items():
        if name in roles.prompts:
            given = convert(name, place, True) if name in raw.table.column_names else [None] * num_rows
            columns[name] = pa.chunked_array([pa.array([text or "" for text in given], pa.string())])
            continue
        for row, text in enumerate(convert(name, place, True)):
            reason = text_fault(text)
            if reason:
                reasons.setdefault(row, []).append(f"{name!r} {reason}")
    for name, place in roles.cells.items():
        try:
            columns[name] = as_cells(raw.table.column(name))
        except TypeError as error:
            faults.add(f"type of {name!r}", place, f"column {name!r} of {raw.source} holds {error}")
    if not faults:
        columns |= _check_cells(raw, roles, columns, reasons)
    for name, place in roles.groups.items():
        if name in raw.table.column_names:
            for row, value in enumerate(convert(name, place, False)):
                if not value:
                    faults.add(f"missing {name!r}", raw.place(row), f"{name!r} is missing ({place} needs it)")
    for name, place in roles.targets.items():
        if name not in raw.table.column_names:
            columns[name] = pa.chunked_array([pa.nulls(num_rows, pa.string())])
            continue
        given = convert(name, place, False)
        values: list[Any] = _without_missing(given, missing_labels)
        if name in roles.written:  # "NA" or "None" may be all that a text says
            values = [None if text_fault(text) else text for text in given]
        if name in roles.tags and given:
            words = roles.tagged[name]
            values = check_tags(values, name, words, columns[words.config.column].to_pylist(), reasons)
        if name in roles.numbers:
            values = _numbers(values, name, raw, faults)
        columns[name] = pa.chunked_array([pa.array(values, pa.float64() if name in roles.numbers else pa.string())])
        if need_targets:
            for row, value in enumerate(values):
                if value is None and row not in reasons:
                    marker = f" ({given[row]!r} means that: data.missing_labels)" if given[row] else ""
                    why = text_fault(given[row]) if name in roles.written else f"has no label{marker}"
                    reasons.setdefault(row, []).append(f"{name!r} {why}")
    if not skip_bad:
        hint = "; data.on_bad_row=skip leaves such rows out"
        for row, reason in ((row, reason) for row, found in sorted(reasons.items()) for reason in found):
            faults.add(_kind(reason, roles), raw.place(row), reason + hint)
            hint = ""
    elif len(reasons) == num_rows:
        faults.add("no rows", "", f"{raw.source}: no row can be used ({next(iter(reasons.values()))[0]})")
    faults.raise_any()
    skipped = tuple(BadRow(ids[row], raw.place(row), found[0]) for row, found in sorted(reasons.items()))
    keep = np.ones(num_rows, bool)
    keep[list(reasons)] = False
    table = pa.table({ID: pa.chunked_array([pa.array(ids, pa.string())]), **columns}).filter(pa.array(keep))
    places = _Places(raw, np.flatnonzero(keep))
    return CheckedRows(table, places, raw.broken + skipped, raw)


def _kind(reason: str, roles: Roles) -> str:
    """What faults are counted by: the reason but for positions, or the column where reasons name values."""
    column = next((repr(name) for name in (*roles.cells, *roles.tags) if reason.startswith(repr(name))), None)
    return column or reason.split(" at position")[0]


def _check_cells(
    raw: RawTable, roles: Roles, columns: Mapping[str, pa.ChunkedArray], reasons: dict[int, list[str]]
) -> dict[str, pa.ChunkedArray]:
    """Note what is wrong with cells; gives the columns in which names of files became those of files found."""
    folder = Path(raw.source) if os.path.isdir(raw.source) else Path(raw.source).parent
    given = {name: columns[name].to_pylist() for cells in roles.inputs for name in (cells.config.column, *cells.places)}
    found = {name: list(given[name]) for name in roles.cells}
    for cells in roles.inputs:
        for row in range(raw.table.num_rows):
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
                reasons.setdefault(row, []).extend(problems)
                continue
            for name in cells.resolved:
                found[name][row] = write_cell(values[name])
    return {name: pa.chunked_array([pa.array(values, pa.string())]) for name, values in found.items()}


class _Places(Sequence[str]):
    """Where the rows that were kept stand in their file."""

    def __init__(self, raw: RawTable, rows: Any) -> None:
        self._raw, self._rows = raw, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._raw.place(int(self._rows[index]))


def text_fault(text: str | None) -> str | None:
    """Why a text cannot be used: missing, empty, blank, or with NUL characters as binary data have them."""
    if text is None:
        return "is missing"
    if not text:
        return "is empty"
    if text.isspace():
        return "is blank"
    if "\0" in text:
        return f"has a NUL character at position {text.index(chr(0))}"
    return None


def as_text(values: pa.ChunkedArray, *, whole_numbers_only: bool) -> pa.ChunkedArray:
    """A column as text; raises `TypeError` naming the type where it is none of text, number and truth value.

    Whole numbers keep all their digits; with `whole_numbers_only` fractions are refused, otherwise 1.0 becomes "1".
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return as_text(values.cast(kind.value_type), whole_numbers_only=whole_numbers_only)
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return values.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_floating(kind) and not whole_numbers_only:
        numbers = [None if value is None or math.isnan(value) else value for value in values.to_pylist()]
        texts = [
            None if value is None else str(int(value)) if value.is_integer() else repr(float(value))
            for value in numbers
        ]
        return pa.chunked_array([pa.array(texts, pa.string())])
    raise TypeError(f"{kind}, not text")


def as_cells(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of lists, objects or texts as text, lists and objects as JSON; raises `TypeError` as `as_text`."""
    kind = values.type
    if not pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return as_text(values, whole_numbers_only=False)
    try:
        texts = [None if value is None else write_cell(value) for value in values.to_pylist()]
    except TypeError:
        raise TypeError(f"{kind}, not texts and numbers") from None
    return pa.chunked_array([pa.array(texts, pa.string())])


def _check_ids(ids: Sequence[str | None], raw: RawTable, column: str, faults: FaultLog) -> None:
    for row, value in enumerate(ids):
        if value is None or not value.strip():
            faults.add("missing ids", raw.place(row), f"the id ({column!r}) is missing")
    repeated = {value: count for value, count in Counter(ids).items() if count > 1 and value}
    if repeated:
        shown = ", ".join(f"{value!r} {count} times" for value, count in list(repeated.items())[:3])
        message = f"{raw.source}: {len(repeated)} ids occur more than once: {shown}" + (
            ", ..." if len(repeated) > 3 else ""
        )
        faults.add("repeated ids", "data.id", message)


def _without_missing(values: Sequence[str | None], missing: Sequence[str]) -> list[str | None]:
    markers = frozenset(missing)
    return [None if value is None or value.strip() in markers else value for value in values]


def _numbers(values: Sequence[str | None], column: str, raw: RawTable, faults: FaultLog) -> list[float | None]:
    """Texts as finite numbers; notes each that is none with its row."""
    numbers: list[float | None] = []
    for row, value in enumerate(values):
        number = None
        if value is not None:
            try:
                number = float(value) if "_" not in value else math.nan
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                hint = " (a decimal comma? write 1.5)" if value.count(",") == 1 and "." not in value else ""
                kind = "infinite" if math.isinf(number) else "not a number"
                faults.add(f"{column!r} {kind}", raw.place(row), f"{column!r} is {value[:40]!r}, {kind}{hint}")
        numbers.append(number)
    return numbers


def same_but_for_spelling(left: Sequence[str], right: Sequence[str]) -> str:
    """A hint where ids of two files match once spaces, case or leading zeros are ignored; otherwise empty."""
    rules: dict[str, Callable[[str], str]] = {
        "spaces": str.strip,
        "upper and lower case": str.casefold,
        "leading zeros": lambda value: value.strip().lstrip("0"),
        "a file suffix": lambda value: value.rsplit(".", 1)[0],
    }
    for name, rule in rules.items():
        if {rule(value) for value in left} & {rule(value) for value in right}:
            return f"; they differ by {name}"
    return ""
