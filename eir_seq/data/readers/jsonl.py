"""JSON: one object per line, objects one after another, one list of objects, or one object that holds such a list."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import pyarrow as pa

from eir_seq.config.schema import DataConfig
from eir_seq.data.increasing import Increasing
from eir_seq.data.readers.base import BadRow, FaultLog, RawTable, Reader, Wanted, file_record, open_text
from eir_seq.errors import Fault, UserError
from eir_seq.spool import ROWS_PER_BATCH, Spool

CHARACTERS_PER_BATCH = 1 << 23
MOST_BROKEN = 10_000
"""Broken rows after which a file is refused without a look at the rest."""
MOST_WHOLE = 1 << 26
"""Characters that are parsed at once: of one row in a list, or of all rows where they span lines and are in no list."""
BLOCK, CUT = 1 << 20, 16
_SPACE = re.compile(r"\s*")


def read_json(path: str, wanted: Wanted, place: str, *, skip_broken: bool) -> RawTable:
    """The wanted columns of a JSON Lines file, or of a file with objects, with a list of them, or with one object whose
    only list of objects holds the rows.

    A key that an object lacks is a missing value. Raises `UserError` naming the line of everything that is no JSON
    object, that holds a wanted key twice, or whose value is of another type than those before; with `skip_broken` such
    lines are left out and listed.
    """
    faults = FaultLog()
    with open_text(path, place, errors="surrogateescape") as file:
        rows, unit = _rows(file, path, place, wanted)
        columns = _Columns(wanted)
        for number, item in enumerate(rows, 1):
            if isinstance(item, str) and not item.strip():
                continue
            reason = columns.add(item, number)
            if reason:
                faults.add("broken JSON", f"{path} {unit} {number}", reason)
                row = BadRow(f"{unit} {number}", f"{path} {unit} {number}", reason, before=len(columns.lines))
                columns.broken.append(row)
                if not skip_broken and len(columns.broken) == MOST_BROKEN:
                    break
    if not skip_broken:
        faults.raise_any()
    if not columns.lines:
        raise UserError(Fault(place, f"{path} holds no readable rows"))
    table = columns.table(wanted.resolve(list(columns.seen), path))
    lines = columns.lines if unit == "line" else None
    return RawTable(path, table, lines, broken=tuple(columns.broken), record=file_record(path, table))


# --------------------------------------------------------------------------------------------- what holds the rows


def _rows(file: IO[str], path: str, place: str, wanted: Wanted) -> tuple[Iterable[Any], str]:
    """The rows, as lines that are still to be parsed or as parsed values, and whether they count by line or row."""
    pieces = (piece.lstrip() for piece in iter(lambda: file.read(1 << 12), ""))
    start = next(filter(None, pieces), "")[:1]
    file.seek(0)
    if start == "[":
        return _List(file, path, place).items(), "row"
    lines = (line for line in iter(lambda: file.readline(MOST_WHOLE), "") if line.strip())
    first, second = next(lines, ""), next(lines, "")
    file.seek(0)
    value = _parsed(first)
    if not second:
        _refuse_columns(value, path, place, wanted)
    if isinstance(value, _Object) and not second and not _is_row(value, wanted) and _lists(value):
        return _list_inside(value, path, place), "row"
    if first.lstrip()[:1] != "{" or isinstance(value, _Object):
        return file, "line"
    text = file.read(MOST_WHOLE + 1)
    try:
        if len(text) > MOST_WHOLE:
            raise ValueError(f"more than {MOST_WHOLE >> 20} MB, and not one object per line or one list of them")
        values = list(_values(text))
    except (ValueError, RecursionError) as error:
        if first.lstrip()[:1] == "{" and isinstance(_parsed(second), _Object):
            file.seek(0)
            return file, "line"  # JSON Lines whose first line is broken
        raise UserError(Fault(place, f"{path} is not valid JSON: {error}")) from None
    if len(values) == 1:
        _refuse_columns(values[0], path, place, wanted)
    if len(values) == 1 and isinstance(values[0], _Object) and not _is_row(values[0], wanted):
        return _list_inside(values[0], path, place), "row"
    return values, "row"


def _is_row(value: Mapping[str, Any], wanted: Wanted) -> bool:
    return bool(value.keys() & {*wanted.places, *wanted.rename})


def _refuse_columns(value: Any, path: str, place: str, wanted: Wanted) -> None:
    """Raise `UserError` for one object that holds columns, each a list or an object by row, as pandas writes tables."""
    if not isinstance(value, _Object):
        return
    cells = {wanted.rename.get(key, key): isinstance(item, list | dict) for key, item in value.items()}
    requested = {name: cells[name] for name in wanted.places if name in cells}
    if all(requested.values()) and requested.keys() - wanted.structured:
        message = f"{path} holds columns, not rows; write one object per row (pandas: to_json(..., orient='records'))"
        raise UserError(Fault(place, message))


def _lists(value: Mapping[str, Any]) -> list[str]:
    """The keys under which an object has a list of objects."""
    return [
        key for key, item in value.items() if isinstance(item, list) and item and all(isinstance(x, dict) for x in item)
    ]


def _list_inside(value: Mapping[str, Any], path: str, place: str) -> list[Any]:
    """The list of objects that an object holds; raises `UserError` if there is none, or more than one."""
    lists = _lists(value)
    if len(lists) == 1:
        found: list[Any] = value[lists[0]]
        return list(_questions(found)) if all("paragraphs" in item for item in found) else found
    keys = ", ".join(map(repr, list(lists or value)[:8])) + (", ..." if len(lists or value) > 8 else "")
    what = f"with {len(lists)} lists of objects ({keys})" if lists else f"without a list of objects (its keys: {keys})"
    raise UserError(
        Fault(place, f"{path} is one JSON object {what}; write the rows as one list, or one object per line")
    )


def _questions(articles: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """One row per question of a file as SQuAD's are: its own keys, and the paragraph's context and article's title."""
    for article in articles:
        for paragraph in article["paragraphs"] if isinstance(article["paragraphs"], list) else [article]:
            if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
                yield paragraph
                continue
            for question in paragraph["qas"]:
                above = {"title": article.get("title"), "context": paragraph.get("context")}
                yield _Object([*{**above, **question}.items()]) if isinstance(question, dict) else question


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        return None


def _values(text: str) -> Iterator[Any]:
    """The JSON values that follow one another in a text."""
    decoder = json.JSONDecoder(object_pairs_hook=_Object)
    start = 0
    while (start := _SPACE.match(text, start).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        value, start = decoder.raw_decode(text, start)
        yield value


class _List:
    """A file that is one list, read item by item."""

    def __init__(self, file: IO[str], path: str, place: str) -> None:
        self._file, self._path, self._place = file, path, place
        self._decoder = json.JSONDecoder(object_pairs_hook=_Object)
        self._text, self._position, self._ended = "", 0, False
        self._line = 1

    def items(self) -> Iterator[Any]:
        """Its items; raises `UserError` if it is broken."""
        self._expect("[")
        if self._next() != "]":
            yield self._value()
            while self._next() == ",":
                self._expect(",")
                yield self._value()
        self._expect("]")
        if self._next():
            raise self._fault("there is more after the end of the list")

    def _next(self) -> str:
        """The next character that is no space, "" at the end of the file."""
        while True:
            self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
            if self._position < len(self._text) or self._ended:
                return self._text[self._position : self._position + 1]
            self._fill()

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise self._fault(f"expecting {character!r}")
        self._position += 1

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
                if end + 2 < len(self._text) or self._ended:  # a number may continue
                    self._position = end
                    return value
            except json.JSONDecodeError as error:
                # Of a value that continues in the next block, the end is what cannot be parsed, or a text has none.
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - CUT
                if self._ended or not cut:
                    self._position = error.pos
                    raise self._fault(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise self._fault(str(error)) from None
            if len(self._text) - self._position > MOST_WHOLE:
                raise self._fault(f"a row of more than {MOST_WHOLE >> 20} MB")
            self._fill()

    def _fill(self) -> None:
        """Read on, at least as much as is held, so that a long value is not parsed often."""
        self._line += self._text.count("\n", 0, self._position)
        self._text = self._text[self._position :]
        block = self._file.read(max(BLOCK, len(self._text)))
        self._text, self._position, self._ended = self._text + block, 0, not block

    def _fault(self, message: str) -> UserError:
        line = self._line + self._text.count("\n", 0, self._position)
        return UserError(Fault(self._place, f"{self._path} is not valid JSON: {message} (line {line})"))


class _Object(dict[str, Any]):
    """A JSON object that knows which keys it held twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: frozenset[str] = frozenset()
        if len(self) < len(pairs):
            self.repeated = frozenset(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)


# ------------------------------------------------------------------------------------------------------- columns


class _Columns:
    """The values of the wanted keys, row by row, each column of one type.

    They are kept as text, so that integers keep all their digits; those of columns that are read as numbers, as
    numbers.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.lines = Increasing()
        self.broken: list[BadRow] = []
        self.seen: dict[str, None] = {}
        self._spool = Spool(wanted.folder)
        self._values: dict[str, list[Any]] = {name: [] for name in wanted.places}
        self._numbers = wanted.numbers
        self._types: dict[str, pa.DataType] = {}
        self._size = 0
        self._kinds: dict[str, str] = {}
        self._fractions: set[str] = set()
        self._structured = wanted.structured
        self._old_names = {new: old for old, new in wanted.rename.items()}
        self._keys = {*wanted.places, *(old for old, new in wanted.rename.items() if new in wanted.places)}

    def add(self, item: Any, number: int) -> str | None:
        """Take one row; returns why it cannot be taken."""
        if isinstance(item, str):
            try:
                item = json.loads(item, object_pairs_hook=_Object)
            except (ValueError, RecursionError) as error:
                return f"not valid JSON: {error}"
        if not isinstance(item, _Object):
            return f"a {type(item).__name__} where a JSON object is expected"
        if repeated := item.repeated & self._keys:
            return f"key {min(repeated)!r} occurs twice"
        row: dict[str, Any] = {}
        kinds, fractions = {}, []
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
            if value is not None and kind == "number" and name in self._numbers:
                row[name] = _float(value)
            elif isinstance(value, float):
                fractions.append(name)
        self._kinds.update(kinds)
        self._fractions.update(fractions)
        for name, text in row.items():
            self._values[name].append(text)
            self._size += len(text) if isinstance(text, str) else 8
        self.seen.update(dict.fromkeys(item))
        self.lines.append(number)
        if self._size > CHARACTERS_PER_BATCH or len(self.lines) % ROWS_PER_BATCH == 0:
            self._flush()
        return None

    def table(self, names: Iterable[str]) -> pa.Table:
        """The columns with these names; integers keep all their digits, as text."""
        self._flush()
        table = self._spool.table()
        return pa.table(
            {name: table[name].cast(pa.float64()) if name in self._fractions else table[name] for name in names}
        )

    def _flush(self) -> None:
        if not next(iter(self._values.values())):
            return
        columns = {}
        for name, values in self._values.items():
            known = name in self._numbers and self._kinds.get(name) == "number"
            kind = self._types.setdefault(name, pa.float64() if known else pa.string())
            if known and kind == pa.string():  # the first batch had no value, so that its type was not known
                values = [None if value is None else repr(value) for value in values]
            columns[name] = pa.array(values, kind)
        self._spool.add(pa.record_batch(columns))
        self._values, self._size = {name: [] for name in self._values}, 0


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _typed(value: Any, *, structured: bool) -> tuple[str | None, str | None]:
    """Kind and value as text; kind "broken" comes with the reason as its value, None is a missing value.

    Lists and objects of structured columns stay JSON.
    """
    if value is None:
        return None, None
    kind, text = "text", value
    if structured and isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        return "truth value", str(value).lower()
    elif isinstance(value, int | float):
        return "number", repr(value)
    elif not isinstance(value, str):
        return "broken", f"a {'list' if isinstance(value, list) else 'JSON object'} where text or a number is expected"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # as `surrogateescape` reads a byte
            return "broken", f"byte 0x{code - 0xDC00:02x}, which is not UTF-8, at position {error.start}"
        return "broken", f"half a character (\\u{code:04x}) at position {error.start}"
    return kind, text


def _read(path: str, wanted: Wanted, place: str, data: DataConfig) -> RawTable:
    return read_json(path, wanted, place, skip_broken=data.on_bad_row == "skip")


JSON_LINES = Reader(_read, gzip=True)
