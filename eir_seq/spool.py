"""Tables that may be larger than memory: written once, batch by batch, then mapped from a file."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.files import default_folder

log = logging.getLogger(__name__)

MEMORY = 1 << 25
"""Bytes of a table that stay in memory; beyond, all of it lies in a file."""
ROWS_PER_BATCH = 8192
MOST_ROWS = 1 << 16
"""Rows of a batch in a file: what is done batch by batch holds no more than them in memory."""

_PAGES: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class Spool:
    """Collects record batches and gives them back as one table.

    A small table stays in memory. A larger one goes to a file without a name in `folder` (in the system's temporary
    folder, where that cannot be written), which vanishes with the process, and its columns are views of the mapped
    file. Where neither folder has room the rest stays in memory.

    >>> spool = Spool("/tmp")
    >>> spool.add(pa.record_batch({"text": ["a", "b"]}))
    >>> spool.table().num_rows
    2
    """

    def __init__(self, folder: str | Path | None = None, *, memory: float | None = None) -> None:
        self._folders = [Path(folder or default_folder()).expanduser(), Path(tempfile.gettempdir())]
        self._memory = MEMORY if memory is None else memory
        self._kept: list[pa.RecordBatch] = []
        self._tables: list[pa.Table] = []
        self._bytes = self._whole = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows; all batches have the same columns."""
        if self._file is not None:
            self._write([batch])
            return
        self._kept.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > self._memory:
            self._open(batch.schema)

    @property
    def filled(self) -> bool:
        """Whether there is any row."""
        return self._file is not None or bool(self._kept or self._tables)

    def table(self) -> pa.Table:
        """All rows; nothing can be added afterwards."""
        self._close()
        tables = [*self._tables, *([pa.Table.from_batches(self._kept)] if self._kept else [])]
        assert tables, "no batch was added"
        return pa.concat_tables(tables)

    def _open(self, schema: pa.Schema) -> None:
        for folder in self._folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
                break
            except OSError:
                continue
        if self._file is None:
            self._memory = float("inf")
            return
        self._whole = 0
        self._writer = pa.ipc.new_stream(self._file, schema)
        kept, self._kept = self._kept, []
        self._write(kept)

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        assert self._file is not None
        assert self._writer is not None
        batches = [batch.slice(start, MOST_ROWS) for batch in batches for start in range(0, batch.num_rows, MOST_ROWS)]
        for number, batch in enumerate(batches):
            try:
                self._writer.write_batch(batch)
                self._file.flush()
                self._whole = self._file.tell()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                log.warning("rows cannot be kept on disk (%s); those that follow stay in memory", reason)
                self._close()
                self._memory, self._kept = float("inf"), batches[number:]
                return

    def _close(self) -> None:
        if self._file is None:
            return
        if self._whole:
            os.ftruncate(self._file.fileno(), self._whole)  # whole batches alone; a stream may end anywhere
            pages = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            _PAGES.add(pages)
            self._tables.append(pa.ipc.open_stream(pa.py_buffer(pages)).read_all())
            pa.default_memory_pool().release_unused()  # what the batches took
        self._file = self._writer = None


def filtered(table: pa.Table, keep: NDArray[np.bool_], folder: str | Path | None) -> pa.Table:
    """The rows of a table where `keep` is true, in their own spool; the table itself where that is every row."""
    if keep.all():
        return table
    spool, start = Spool(folder), 0
    for batch in table.to_batches(max_chunksize=ROWS_PER_BATCH):
        spool.add(batch.filter(pa.array(keep[start : start + batch.num_rows])))
        start += batch.num_rows
        forget_pages()
    return spool.table()


def content_hash(table: pa.Table) -> str:
    """Hash of the names and values of a table, however its memory is laid out."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name)
        digest.update(f"{name} {column.type} {len(column)}:".encode())
        if pa.types.is_floating(column.type):
            for chunk in column.chunks:
                digest.update(np.asarray(chunk.to_numpy(zero_copy_only=False), np.float64).tobytes())
            continue
        for batch in table.select([name]).to_batches(max_chunksize=ROWS_PER_BATCH):
            values = batch.column(0).cast(pa.string())
            sizes = pc.binary_length(values).cast(pa.string())
            texts = pc.binary_join_element_wise(sizes, values, " ").fill_null("-")  # what ends where cannot be mistaken
            digest.update(_bytes(texts))
            forget_pages()
    return digest.hexdigest()


def _bytes(texts: pa.StringArray) -> memoryview:
    """The bytes of all texts, one after the other."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)
    first, last = bounds[texts.offset], bounds[texts.offset + len(texts)]
    return memoryview(data)[first:last] if data is not None else memoryview(b"")


def forget_pages() -> None:
    """Release what was read of spooled tables: it comes back from the file when it is read again."""
    for pages in list(_PAGES):
        pages.madvise(mmap.MADV_DONTNEED)
