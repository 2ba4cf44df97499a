"""Parquet and Arrow files (IPC file or stream, Feather)."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from eir_seq.data.readers.base import RawTable, Reader, Wanted, file_record, reading
from eir_seq.errors import Fault, UserError
from eir_seq.spool import ROWS_PER_BATCH, Spool


def read_parquet(path: str, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of a Parquet file; the others are not read from disk."""
    with reading(path, place), pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        positions = wanted.resolve(names, path)
        batches = file.iter_batches(ROWS_PER_BATCH, columns=[names[index] for index in positions.values()])
        return _finish(path, place, batches, positions, names, wanted)


def read_arrow(path: str, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of an Arrow file, in the file or in the streaming format; the others are not decompressed."""
    with reading(path, place), pa.memory_map(path) as file:
        open_any = pa.ipc.open_file
        try:
            names = open_any(file).schema.names
        except pa.ArrowInvalid as error:
            if "not an arrow file" not in str(error).lower():
                raise
            file.seek(0)
            open_any = pa.ipc.open_stream
            names = open_any(file).schema.names
            file.seek(0)
        positions = wanted.resolve(names, path)
        source = open_any(file, options=pa.ipc.IpcReadOptions(included_fields=sorted(positions.values())))
        batches: Iterable[pa.RecordBatch] = source
        if isinstance(source, pa.RecordBatchFileReader):
            batches = (source.get_batch(index) for index in range(source.num_record_batches))
        return _finish(path, place, batches, positions, names, wanted)


def _finish(
    path: str,
    place: str,
    batches: Iterable[pa.RecordBatch],
    positions: dict[str, int],
    names: list[str],
    wanted: Wanted,
) -> RawTable:
    spool, count = Spool(wanted.folder), 0
    for batch in batches:
        columns = {new: batch.column(names[index]) for new, index in positions.items()}
        rows = pa.RecordBatch.from_pydict(columns)
        rows.validate(full=True)  # the library takes offsets on trust: wrong ones would end the process later
        if rows.num_rows:
            spool.add(rows)
            count += rows.num_rows
    if count == 0:
        raise UserError(Fault(place, f"{path} has columns and no rows"))
    table = spool.table()
    return RawTable(path, table, record=file_record(path, table))


PARQUET = Reader(lambda path, wanted, place, _data: read_parquet(path, wanted, place))
ARROW = Reader(lambda path, wanted, place, _data: read_arrow(path, wanted, place))
