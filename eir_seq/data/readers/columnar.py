"""Parquet and Arrow files (IPC file or stream, Feather)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from eir_seq.data.readers.base import RawTable, Wanted, file_record, reading
from eir_seq.errors import Fault, UserError


def read_parquet(path: str, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of a Parquet file; the others are not read from disk."""
    with reading(path, place), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        positions = wanted.resolve(names, path)
        table = file.read(columns=[names[index] for index in positions.values()])
    return _finish(path, place, table, positions, names)


def read_arrow(path: str, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of an Arrow file, in the file or in the streaming format."""
    with reading(path, place), pa.memory_map(path) as file:
        try:
            table = pa.ipc.open_file(file).read_all()
        except pa.ArrowInvalid as error:
            if "not an arrow file" not in str(error).lower():
                raise
            file.seek(0)
            table = pa.ipc.open_stream(file).read_all()
        names = table.schema.names
        positions = wanted.resolve(names, path)
    return _finish(path, place, table, positions, names)


def _finish(path: str, place: str, table: pa.Table, positions: dict[str, int], names: list[str]) -> RawTable:
    columns = {new: table.column(names[index]) for new, index in positions.items()}
    if table.num_rows == 0:
        raise UserError(Fault(place, f"{path} has columns and no rows"))
    table = pa.table(columns)
    return RawTable(path, table, record=file_record(path, table))
