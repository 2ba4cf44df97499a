"""A text file: one row, the whole text."""

from __future__ import annotations

import pyarrow as pa

from eir_seq.data.readers.base import RawTable, Reader, Wanted, file_record, open_text
from eir_seq.data.readers.folder import TEXT_COLUMN


def read_text(path: str, wanted: Wanted, place: str) -> RawTable:
    """The text as the only row, line ends and all, in a column called ``text``.

    Raises `UserError` if the file is no UTF-8 text or other columns are wanted.
    """
    wanted.resolve([TEXT_COLUMN], path)
    with open_text(path, place) as file:
        text = file.read()
    name = wanted.rename.get(TEXT_COLUMN, TEXT_COLUMN)
    table = pa.table({name: pa.chunked_array([pa.array([text], pa.large_string())])})
    return RawTable(path, table, files=[path], record=file_record(path, table))


TEXT = Reader(lambda path, wanted, place, _data: read_text(path, wanted, place), gzip=True)
