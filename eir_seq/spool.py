"""Tables and arrays that may be larger than memory: written once, part by part, then mapped from a file."""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from eir_seq.files import default_folder
from eir_seq.rows import Values, bytes_of

log = logging.getLogger(__name__)

MEMORY = 1 << 25
"""Bytes of a table that stay in memory; beyond, all of it lies in a file."""
ROWS_PER_BATCH = 8192
MOST_ROWS = 1 << 16
"""Rows of a batch in a file: what is done batch by batch holds no more than them in memory."""

PART = 1 << 22
"""Bytes of arrays that stay in memory before they are written together."""

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
        self._folder = folder
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
        self._file = _unnamed_file(self._folder)
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
            pages = _mapped(self._file, mmap.ACCESS_READ)
            self._tables.append(pa.ipc.open_stream(pa.py_buffer(pages)).read_all())
            pa.default_memory_pool().release_unused()  # what the batches took
        self._file = self._writer = None


Arrays = tuple[NDArray[Any], ...]


class Stack:
    """Rows of arrays, of which the last are given back first; all but a few MB of them lie in a file, see `Spool`.

    >>> stack = Stack()
    >>> stack.push(np.array([0.5, 1.0]), np.array([7, 8]))
    >>> stack.pop()
    (array([0.5, 1. ]), array([7, 8]))
    """

    def __init__(self) -> None:
        self._kept: list[Arrays] = []
        self._written: list[list[tuple[int, np.dtype[Any], tuple[int, ...]]]] = []
        self._bytes, self._memory, self._end = 0, float(PART), 0
        self._file: IO[bytes] | None = None
        self._pages: mmap.mmap | None = None

    @property
    def filled(self) -> bool:
        """Whether there are any rows."""
        return bool(self._kept or self._written)

    def push(self, *arrays: NDArray[Any]) -> None:
        """Add arrays with as many rows each, which must not change afterwards."""
        self._kept.append(arrays)
        self._bytes += sum(array.nbytes for array in arrays)
        if self._bytes > self._memory:
            self._write()

    def pop(self) -> Arrays:
        """The last rows, of one call of `push` or several; they are forgotten, and nothing is added afterwards."""
        if self._kept:
            return self._kept.pop()
        assert self._file is not None, "there are rows"
        pages = self._pages = self._pages or _mapped(self._file, mmap.ACCESS_READ)
        places = self._written.pop()
        return tuple(np.ndarray(shape, dtype, pages, start) for start, dtype, shape in places)

    def _write(self) -> None:
        self._file = self._file or _unnamed_file(None)
        end = self._end
        written: list[list[tuple[int, np.dtype[Any], tuple[int, ...]]]] = []
        try:
            if self._file is None:
                raise OSError("no folder takes them")
            for _, alike in groupby(self._kept, lambda arrays: [(array.dtype, array.shape[1:]) for array in arrays]):
                written.append([])
                for column in map(np.concatenate, zip(*alike, strict=True)):
                    written[-1].append((end, column.dtype, column.shape))
                    end += _write_at(self._file, end, column.tobytes())
        except OSError as error:
            log.warning("arrays cannot be kept on disk (%s); they stay in memory", error.strerror or error)
            self._memory = float("inf")
            return
        self._written += written
        self._kept, self._bytes, self._end = [], 0, end


def _write_at(file: IO[bytes], start: int, content: bytes) -> int:
    rest = memoryview(content)
    while rest:
        rest = rest[os.pwrite(file.fileno(), rest, start + len(content) - len(rest)) :]
    return len(content)


def zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; a large one lies in a file, see `Spool`, where there is room for it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > PART and hasattr(os, "posix_fallocate") and (file := _unnamed_file(None)) is not None:
        with file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)  # no room would end the process when it is written to
            return np.frombuffer(_mapped(file, mmap.ACCESS_WRITE), dtype).reshape(shape)
    return np.zeros(shape, dtype)


def _unnamed_file(folder: str | Path | None) -> IO[bytes] | None:
    """A file that vanishes with the process; None where no folder takes it."""
    for place in (Path(folder or default_folder()).expanduser(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=place)
    return None


def _mapped(file: IO[bytes], access: int) -> mmap.mmap:
    pages = mmap.mmap(file.fileno(), 0, access=access)
    _PAGES.add(pages)
    return pages


class Packed:
    """Values that are added part by part: many floats, integers or texts lie in files, without their objects.

    >>> packed = Packed()
    >>> packed.extend([0.5, 1.0])
    >>> packed.extend(["", 2])
    >>> list(packed.values())
    [0.5, 1.0, '', 2]
    """

    def __init__(self) -> None:
        self._parts: list[Spool | list[Any]] = []
        self._kind: pa.DataType | None = None

    def extend(self, values: Sequence[Any]) -> None:
        """Add values."""
        if not len(values):
            return
        kinds, array = set(map(type, values)), None
        if len(kinds) == 1 and kinds <= {float, int, str}:
            with suppress(pa.ArrowException, UnicodeEncodeError, OverflowError):
                array = pa.array(list(values))
        kind = None if array is None else array.type
        if array is None:
            self._parts.append(list(values))
        elif kind != self._kind:
            self._parts.append(Spool(memory=PART))
        self._kind = kind
        if isinstance(spool := self._parts[-1], Spool):
            spool.add(pa.record_batch({"values": array}))

    def values(self) -> Values[Any]:
        """All of them; nothing can be added afterwards."""
        parts = (part.table().column(0).chunks if isinstance(part, Spool) else [part] for part in self._parts)
        return Values(list(chain.from_iterable(parts)))


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
            digest.update(bytes_of(texts)[0].data)
            forget_pages()
    return digest.hexdigest()


def forget_pages() -> None:
    """Release what was read of spooled tables: it comes back from the file when it is read again."""
    for pages in list(_PAGES):
        pages.madvise(mmap.MADV_DONTNEED)
