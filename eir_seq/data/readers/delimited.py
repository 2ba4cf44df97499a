"""CSV and TSV. Every value stays the text that stands in the file: "007" is not 7, and "NA" is not a missing value."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa

from eir_seq.data.readers.base import FaultLog, RawTable, Wanted, file_record, open_text
from eir_seq.errors import Fault, UserError

ROWS_PER_CHUNK = 8192
DELIMITERS = {"\t": "a tab", ";": "';'", "|": "'|'", ",": "','"}


def read_delimited(path: str, wanted: Wanted, place: str, *, delimiter: str, quote: str | None) -> RawTable:
    """The wanted columns of a delimited file, as text.

    A record may span lines where it is quoted. Raises `UserError` naming the line of every record that has another
    number of fields than the header, or of a quote that is never closed.
    """
    csv.field_size_limit(2**31 - 1)
    faults, chunks, lines = FaultLog(), [], []
    with open_text(path, place) as file:
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
            names, indices, width = list(positions), list(positions.values()), len(header)
            columns: list[list[str]] = [[] for _ in names]
            start = reader.line_num + 1
            for row in reader:
                if len(row) == width:
                    for column, index in zip(columns, indices, strict=True):
                        column.append(row[index])
                    lines.append(start)
                    if len(lines) % ROWS_PER_CHUNK == 0:
                        chunks.append(_chunk(names, columns))
                        columns = [[] for _ in names]
                elif row:
                    message = f"{len(row)} fields where the header has {width}{_ragged_hint(quote)}"
                    faults.add("number of fields", f"{path} line {start}", message)
                start = reader.line_num + 1
        except csv.Error as error:
            cause = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
            faults.add(
                "quotes", f"{path} line {start}", f"{cause}; data.quote=null reads quotes as ordinary characters"
            )
    faults.raise_any()
    if not lines:
        raise UserError(Fault(place, f"{path} has a header and no rows"))
    table = pa.Table.from_batches([*chunks, _chunk(names, columns)])
    return RawTable(path, table, np.asarray(lines, np.int64), record=file_record(path, table))


def _chunk(names: list[str], columns: list[list[str]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in columns], names)


def _check_delimiter(header: list[str], delimiter: str, path: str) -> None:
    """Raise `UserError` where the header is one field that holds another delimiter."""
    for other, name in DELIMITERS.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            message = f"only one column was found in {path} ({header[0][:60]!r}): is the delimiter {name}?"
            raise UserError(Fault("data.delimiter", message))


def _ragged_hint(quote: str | None) -> str:
    return "; quote fields that hold the delimiter or line ends" if quote else ""
