"""JSON: one object per line, or one list of objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from eir_seq.data.readers.base import BadRow, FaultLog, RawTable, Wanted, file_record, open_text
from eir_seq.errors import Fault, UserError

ROWS_PER_CHUNK = 8192


def read_json(path: str, wanted: Wanted, place: str, *, skip_broken: bool) -> RawTable:
    """The wanted columns of a JSON Lines file, or of a file with one list of objects.

    A key that an object lacks is a missing value. Raises `UserError` naming the line of everything that is no JSON
    object, that holds a key twice, or whose value is of another type than those before; with `skip_broken` such lines
    are left out and listed.
    """
    faults = FaultLog()
    with open_text(path, place) as file:
        start = file.read(4096).lstrip()[:1]
        file.seek(0)
        if start == "[":
            rows: Iterable[tuple[int, Any]] = enumerate(_parse_list(path, place, file.read()), 1)
            unit = "row"
        else:
            rows, unit = enumerate(file, 1), "line"
        columns = _Columns(wanted)
        for number, item in rows:
            if isinstance(item, str) and not item.strip():
                continue
            reason = columns.add(item, number)
            if reason:
                faults.add("broken JSON", f"{path} {unit} {number}", reason)
                columns.broken.append(BadRow(f"{unit} {number}", f"{path} {unit} {number}", reason))
    if not skip_broken:
        faults.raise_any()
    if not columns.lines:
        raise UserError(Fault(place, f"{path} holds no readable rows"))
    names = list(columns.seen)
    table = columns.table(wanted.resolve(names, path))
    lines = np.asarray(columns.lines, np.int64) if unit == "line" else None
    return RawTable(path, table, lines, broken=tuple(columns.broken), record=file_record(path, table))


def _parse_list(path: str, place: str, text: str) -> list[Any]:
    try:
        rows = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise UserError(Fault(place, f"{path} is not valid JSON: {error}")) from None
    assert isinstance(rows, list)
    return rows


class _Object(dict[str, Any]):
    """A JSON object that knows whether it held a key twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: str | None = None
        if len(self) < len(pairs):
            self.repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]


class _Columns:
    """The values of the wanted keys, row by row, each column of one type."""

    def __init__(self, wanted: Wanted) -> None:
        self.lines: list[int] = []
        self.broken: list[BadRow] = []
        self.seen: dict[str, None] = {}
        self._values: dict[str, list[Any]] = {name: [] for name in wanted.places}
        self._kinds: dict[str, str] = {}
        self._structured = wanted.structured
        self._old_names = {new: old for old, new in wanted.rename.items()}

    def add(self, item: Any, number: int) -> str | None:
        """Take one row; returns why it cannot be taken."""
        if isinstance(item, str):
            try:
                item = json.loads(item, object_pairs_hook=_Object)
            except (ValueError, RecursionError) as error:
                return f"not valid JSON: {error}"
        if not isinstance(item, _Object):
            return f"a {type(item).__name__} where a JSON object is expected"
        if item.repeated is not None:
            return f"key {item.repeated!r} occurs twice"
        row, kinds = {}, {}
        for name in self._values:
            value = item.get(self._old_names.get(name, name), item.get(name))
            kind, row[name] = _typed(value, structured=name in self._structured)
            expected = self._kinds.get(name, kind)
            if kind == "broken":
                return f"{name!r}: {row[name]}"
            if kind is not None and expected is not None and kind != expected:
                return f"{name!r} is a {kind} here and a {expected} in the rows before"
            if kind is not None:
                kinds[name] = kind
        self._kinds.update(kinds)
        for name, value in row.items():
            self._values[name].append(value)
        self.seen.update(dict.fromkeys(item))
        self.lines.append(number)
        return None

    def table(self, names: Iterable[str]) -> pa.Table:
        """The columns with these names; whole numbers keep all their digits, as text."""
        arrays = {}
        for name in names:
            values = self._values[name]
            if any(isinstance(value, float) for value in values):
                values, kind = [None if value is None else float(value) for value in values], pa.float64()
            else:
                values, kind = [None if value is None else str(value) for value in values], pa.string()
            parts = [values[i : i + ROWS_PER_CHUNK] for i in range(0, len(values), ROWS_PER_CHUNK)]
            arrays[name] = pa.chunked_array([pa.array(part, kind) for part in parts], kind)
        return pa.table(arrays)


def _typed(value: Any, *, structured: bool) -> tuple[str | None, Any]:
    """Kind and value; kind "broken" comes with the reason as its value, None is a missing value.

    Lists and objects of structured columns stay JSON.
    """
    if value is None:
        return None, None
    if structured and isinstance(value, list | dict):
        return "text", json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "truth value", str(value).lower()
    if isinstance(value, int | float):
        return "number", value
    if not isinstance(value, str):
        return "broken", f"a {'list' if isinstance(value, list) else 'JSON object'} where text or a number is expected"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        return "broken", f"half a character (\\u{ord(value[error.start]):04x}) at position {error.start}"
    return "text", value
