"""CSV and TSV. Every value stays the text that is in the file: "007" is not 7, and "NA" is not a missing value."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from eir_seq.config.schema import DataConfig
from eir_seq.data.increasing import Increasing
from eir_seq.data.readers.base import (
    FaultLog,
    RawTable,
    Reader,
    Wanted,
    file_record,
    has_surrogate,
    open_text,
    undecodable,
)
from eir_seq.errors import Fault, UserError
from eir_seq.spool import ROWS_PER_BATCH, Spool

CHARACTERS_PER_BATCH = 1 << 23
ARROW_BLOCK = 1 << 22
"""Bytes that Arrow parses at once; no row may be longer."""
SCANNED = 1 << 18
DELIMITERS = {"\t": "a tab", ";": "';'", "|": "'|'", ",": "','"}
LINES_SHOWN = 3
_LINE_END = re.compile(r"\r\n|\r|\n")


def read_delimited(path: str, wanted: Wanted, place: str, *, delimiter: str, quote: str | None) -> RawTable:
    """The wanted columns of a delimited file, as text.

    A record may span lines where it is quoted; a warning names those whose lines look like their own rows, if they
    are at least half of those that span lines. Raises
    `UserError` naming the line of every record that has another number of fields than the header, of a quote that is
    never closed, or of bytes in a wanted column that are not UTF-8.
    """
    csv.field_size_limit(2**31 - 1)
    faults, spool, lines = FaultLog(), Spool(wanted.folder), Increasing()
    merged: list[tuple[int, int]] = []
    spanning = 0
    with open_text(path, place, errors="surrogateescape") as file:
        reader = csv.reader(
            file,
            delimiter=delimiter,
            quotechar=quote or '"',
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            strict=True,
        )
        start = 1
        try:
            header = next((row for row in reader if row), [])
            _check_delimiter(header, delimiter, path)
            positions = wanted.resolve(header, path)
            if (plain := _read_plain(path, wanted, positions, len(header), delimiter, quote)) is not None:
                return plain
            names, indices, width = list(positions), list(positions.values()), len(header)
            spaced = any(name.startswith(" ") for name in header[1:])
            columns: list[list[str]] = [[] for _ in names]
            size, start = 0, reader.line_num + 1
            for row in reader:
                end = reader.line_num
                if len(row) == width:
                    for column, index in zip(columns, indices, strict=True):
                        column.append(row[index])
                        size += len(row[index])
                    lines.append(start)
                    spanning += end > start
                    if end > start and _holds_rows(row, delimiter, spaced=spaced):
                        merged.append((start, end))
                    if len(columns[0]) == ROWS_PER_BATCH or size > CHARACTERS_PER_BATCH:
                        spool.add(_batch(names, columns, lines, path, place))
                        columns, size = [[] for _ in names], 0
                elif row:
                    message = f"{len(row)} fields where the header has {width}{_ragged_hint(quote, start, end)}"
                    faults.add("number of fields", f"{path} line {start}", message)
                start = end + 1
        except csv.Error as error:
            cause = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
            faults.add(
                "quotes", f"{path} line {start}", f"{cause}; data.quote=null reads quotes as ordinary characters"
            )
    faults.raise_any()
    if not lines:
        raise UserError(Fault(place, f"{path} has a header and no rows"))
    spool.add(_batch(names, columns, lines, path, place))
    table = spool.table()
    # Where most records of several lines hold no rows, whoever wrote the table quotes what must be quoted.
    warnings = (_warning(path, merged),) if 2 * len(merged) >= max(spanning, 1) else ()
    return RawTable(path, table, lines, record=file_record(path, table), warnings=warnings)


def _read_plain(
    path: str, wanted: Wanted, positions: Mapping[str, int], width: int, delimiter: str, quote: str | None
) -> RawTable | None:
    """The wanted columns of a file in which every line is a row of `width` fields, read by Arrow; None for any other.

    It gives what the general reader gives, many times faster where a table is wide, and leaves everything that is
    wrong to that one, which names the line.
    """
    if not delimiter.isascii() or not _is_plain(path, delimiter, quote):
        return None
    chosen = {f"f{index}": name for name, index in positions.items()}
    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(
                skip_rows=1, column_names=[f"f{index}" for index in range(width)], block_size=ARROW_BLOCK
            ),
            pa_csv.ParseOptions(delimiter=delimiter, quote_char=quote or False, double_quote=bool(quote)),
            pa_csv.ConvertOptions(
                include_columns=list(chosen),
                column_types=dict.fromkeys(chosen, pa.string()),
                strings_can_be_null=False,
            ),
        )
        spool = Spool(wanted.folder)
        for batch in reader:
            spool.add(batch.rename_columns(list(chosen.values())))
        table = spool.table()
    except (pa.ArrowException, OSError, AssertionError):
        return None
    if not table.num_rows:
        return None
    return RawTable(path, table, range(2, table.num_rows + 2), record=file_record(path, table))


def _is_plain(path: str, delimiter: str, quote: str | None) -> bool:
    """Whether each line after the header is a row: quotes are around whole fields and hold no ends of lines, and there
    are no empty lines, NULs or lone carriage returns."""
    if quote and not quote.isascii():
        return False
    before, line = b"\n", b""
    with open(path, "rb") as file:
        start = file.read(3)
        if start[:2] == b"\x1f\x8b":
            return False
        if start != b"\xef\xbb\xbf":
            file.seek(0)
        while block := file.read(SCANNED):
            joined = before + block
            if b"\0" in block or b"\n\n" in joined or b"\n\r" in joined:
                return False
            if block.endswith(b"\r"):
                block += file.read(1)
            if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
                return False
            before = block[-1:]
            if not quote:
                continue
            whole, end, rest = block.rpartition(b"\n")
            if end and not _quotes_fields(line + whole + end, delimiter, quote):
                return False
            line = rest if end else line + rest
            if len(line) > ARROW_BLOCK:
                return False
    return not quote or _quotes_fields(line + b"\n", delimiter, quote)


def _quotes_fields(lines: bytes, delimiter: str, quote: str) -> bool:
    r"""Whether all quotes of some whole lines are around fields of their line, or doubled within such fields.

    In a line with an even number of quotes, every other one either begins a field or is the second of a doubled one,
    and the others end a field or are the first of a doubled one.

    >>> [_quotes_fields(line, ",", "'") for line in (b"'a, ''b''',c\n", b"5' x 6',c\n", b"'a'b,c\n")]
    [True, False, False]
    """
    mark, separates, ends = quote.encode()[0], delimiter.encode()[0], ord("\n")
    if quote.encode() not in lines:
        return True
    given = np.frombuffer(lines, np.uint8)
    marks = np.flatnonzero(given == mark)
    line_of = np.searchsorted(np.flatnonzero(given == ends), marks)
    counts = np.bincount(line_of)
    if (counts % 2).any():
        return False
    # Where all counts are even, the number of a quote in its line and its number in all lines are both even or odd.
    before = np.where(marks[::2] > 0, given[marks[::2] - 1], ends)
    after = given[marks[1::2] + 1]
    begin = (before == separates) | (before == ends) | (before == mark)
    close = (after == separates) | (after == ends) | (after == ord("\r")) | (after == mark)
    return bool(begin.all() and close.all())


def _batch(names: list[str], columns: list[list[str]], lines: Sequence[int], path: str, place: str) -> pa.RecordBatch:
    """The last rows as Arrow columns; `lines` are those of all rows so far."""
    try:
        return pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in columns], names)
    except UnicodeEncodeError:
        rows = zip(*columns, strict=True)
        row = next(row for row, values in enumerate(rows) if any(map(has_surrogate, values)))
        line = lines[len(lines) - len(columns[0]) + row]
        raise UserError(Fault(place, f"{path} is not UTF-8: {undecodable(path, line)}")) from None


def _holds_rows(row: Sequence[str], delimiter: str, *, spaced: bool) -> bool:
    """Whether each line of a record that spans lines would be a whole row if quotes were ordinary characters.

    So it is where a quote that is at the beginning of one row finds its end in another. Prose of several lines may
    hold as many commas, but followed by spaces, which `spaced` tables have between their columns as well.
    """
    text = delimiter.join(row)
    if not spaced and delimiter != " " and f"{delimiter} " in text:
        return False
    return len(row) > 1 and all(line.count(delimiter) == len(row) - 1 for line in _LINE_END.split(text) if line)


def _warning(path: str, merged: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{start}-{end}" for start, end in merged[:LINES_SHOWN])
    more = f" and {len(merged) - LINES_SHOWN} more" if len(merged) > LINES_SHOWN else ""
    return (
        f"{path} lines {shown}{more}: a quoted field holds what look like separate rows; if its quotes are "
        "ordinary characters, data.quote=null reads each line as a row"
    )


def _check_delimiter(header: list[str], delimiter: str, path: str) -> None:
    """Raise `UserError` where the header is one field that holds another delimiter."""
    for other, name in DELIMITERS.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            message = f"only one column was found in {path} ({header[0][:60]!r}): is the delimiter {name}?"
            raise UserError(Fault("data.delimiter", message))


def _ragged_hint(quote: str | None, start: int, end: int) -> str:
    if quote is None:
        return ""
    if end > start:
        return f"; a quote holds lines {start} to {end} together (data.quote=null reads quotes as ordinary characters)"
    return "; quote fields that hold the delimiter or line ends"


def _read(path: str, wanted: Wanted, place: str, data: DataConfig) -> RawTable:
    suffix = path.lower().removesuffix(".gz").rpartition(".")[2]
    delimiter = data.delimiter or ("," if suffix == "csv" else "\t")
    return read_delimited(path, wanted, place, delimiter=delimiter, quote=data.quote)


DELIMITED = Reader(_read, gzip=True)
