"""Encoded rows: each input of each split is encoded once, kept in an Arrow file, and read from there without copies."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.cache import Cache, Label, code_version
from eir_seq.cache.owners import Mark
from eir_seq.errors import RunFailed
from eir_seq.files import default_folder as default_folder
from eir_seq.modalities.base import FittedModality
from eir_seq.spool import content_hash, forget_pages

if TYPE_CHECKING:
    from eir_seq.rows import Rows

log = logging.getLogger(__name__)

FORMAT = 3
"""Changes with the layout of the files, so that older ones are not read."""
ROWS_PER_CHUNK = 1024
FORGOTTEN = 64
"""Chunks after which mapped rows are released."""
_FILE = "rows.arrow"

Progress = Callable[[str, int, int], None]
"""Called with a description, the rows done and the rows in all."""


class EncodedRows:
    """Columns of encoded rows in an Arrow file, mapped into memory.

    Sequences are views of the file: flat values between two offsets. Pickling keeps only the path, so that loader
    processes open the file themselves; one that was removed in the meantime they find by the process that has it open.
    `mark` says that the file is in use. Raises `OSError` or `ValueError` if the file is not whole.
    """

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        self.path, self.mark = path, mark
        self._open(path)

    def _open(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)
        pages = mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ)
        try:
            self._chunks = pa.ipc.open_file(pa.py_buffer(pages))
            self._batches = [self._chunks.get_batch(index) for index in range(self._chunks.num_record_batches)]
        except pa.ArrowException as error:
            raise ValueError(f"{path.name} is no Arrow file ({error})") from error
        self.num_rows: int = sum(batch.num_rows for batch in self._batches)
        self._sequences: dict[str, list[tuple[NDArray[np.int32], NDArray[Any]]]] = {}
        self._arrays: dict[str, list[NDArray[Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mark": self.mark, "opened": Path(f"/proc/{os.getpid()}/fd/{self._handle}")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.mark = state["path"], state["mark"]
        try:
            self._open(self.path)
        except FileNotFoundError:
            self._open(state["opened"])

    def __len__(self) -> int:
        return self.num_rows

    @property
    def features(self) -> list[str]:
        """The available features."""
        names: list[str] = self._chunks.schema.names
        return names

    def numbers(self, feature: str) -> NDArray[Any]:
        """One number per row, ``(rows,)``."""
        parts = [batch.column(feature).to_numpy() for batch in self._batches]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        """The sequences of some rows, each ``(length,)`` and read-only."""
        self._renew()
        if feature not in self._sequences:
            arrays = [batch.column(feature) for batch in self._batches]
            self._sequences[feature] = [(array.offsets.to_numpy(), array.values.to_numpy()) for array in arrays]
        chunks, found = self._sequences[feature], []
        for row in rows:
            offsets, values = chunks[row // ROWS_PER_CHUNK]
            start = row % ROWS_PER_CHUNK
            found.append(values[offsets[start] : offsets[start + 1]])
        return found

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        """The arrays of some rows, ``(rows, *shape)``: one copy, from the file into the batch."""
        self._renew()
        if feature not in self._arrays:
            self._arrays[feature] = [batch.column(feature).to_numpy_ndarray() for batch in self._batches]
        chunks = self._arrays[feature]
        return np.stack([chunks[row // ROWS_PER_CHUNK][row % ROWS_PER_CHUNK] for row in rows])

    def _renew(self) -> None:
        if self.mark is not None:
            self.mark.renew()


class EncodedInMemory:
    """A few encoded rows that no file holds, e.g. of one request."""

    def __init__(self, fitted: FittedModality, rows: Mapping[str, Sequence[Any]] | pa.Table) -> None:
        self._encoded = fitted.encode_table(rows) if isinstance(rows, pa.Table) else fitted.encode(rows)

    @property
    def features(self) -> list[str]:
        """The available features."""
        return list(self._encoded)

    def numbers(self, feature: str) -> NDArray[Any]:
        """One number per row, ``(rows,)``."""
        return np.asarray(self._encoded[feature].to_numpy())

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        """The sequences of some rows, each ``(length,)`` and read-only."""
        return [self._encoded[feature][row].values.to_numpy() for row in rows]

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        """The arrays of some rows, ``(rows, *shape)``."""
        values: NDArray[Any] = self._encoded[feature].to_numpy_ndarray()[list(rows)]
        return values


class EncodingCache:
    """Encoded rows in a cache folder, named by the hash of all that they depend on: rows, options, code, libraries.

    Where the folder cannot be written, `fallback` (a temporary folder, if absent) takes its place, with one warning.

    Args:
        folder: the cache folder; the user's one if absent.
        fallback: see above.
        max_size: bytes that the cache folder may have, see `Cache`.
        source: whose rows they are, in readable form.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        fallback: str | Path | None = None,
        *,
        max_size: int | None = None,
        source: str = "",
    ) -> None:
        self._cache = Cache(folder if folder is not None else default_folder(), max_size)
        self._fallback = None if fallback is None else Path(fallback)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._source = source

    @property
    def folder(self) -> Path:
        """Where encoded rows are kept."""
        return self._cache.folder

    def encode(
        self, rows: Rows, fitted: FittedModality, description: str, progress: Progress | None = None
    ) -> EncodedRows:
        """The encoded rows, from the cache where they are there and intact.

        Raises `RunFailed` if neither the cache folder nor the temporary one takes them (disk full).
        """
        table = rows.select_columns(list(dict.fromkeys(fitted.columns))).table
        state = f"{FORMAT} {_code_of(fitted)} {fitted.fingerprint()} {content_hash(table)}"
        label = Label("encoded rows", " ".join(filter(None, (self._source, description))), table.num_rows)

        def build(folder: Path, renew: Callable[[], None]) -> Label:
            def advance(done: int) -> None:
                renew()
                if progress is not None:
                    progress(description, done, table.num_rows)

            _write(folder / _FILE, table, fitted, advance)
            return label

        def read(folder: Path, mark: Mark | None) -> EncodedRows:
            return EncodedRows(folder / _FILE, mark)

        name = f"rows-{hashlib.sha256(state.encode()).hexdigest()}"
        spare = False
        while True:
            try:
                encoded = self._cache.get(name, build, read)
                assert encoded is not None, "all that is built is kept"
                return encoded
            except OSError as error:
                reason, folder = (error.strerror or str(error)).lower(), self.folder
                if spare or folder == self._fallback:
                    raise RunFailed(f"{folder}: encoded rows cannot be written: {reason}") from error
                self._use_spare()
                spare = True
                log.warning(
                    "%s cannot be written (%s); encoded rows are kept in %s for this run", folder, reason, self.folder
                )

    def _use_spare(self) -> None:
        if self._fallback is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="eir_seq-")
            self._fallback = Path(self._temporary.name)
        self._cache = Cache(self._fallback)


def _code_of(fitted: FittedModality) -> str:
    """The version of the code that encodes: that of the input's class, and of what it consists of."""
    parts = [fitted, *getattr(fitted, "__dict__", {}).values()]
    parts += [item for part in parts if isinstance(part, Mapping) for item in part.values()]
    return code_version(*map(type, parts))


def _write(path: Path, table: pa.Table, fitted: FittedModality, advance: Callable[[int], None]) -> None:
    """Encode chunk by chunk into a file."""
    with path.open("xb") as file:
        writer = None
        for start in range(0, table.num_rows, ROWS_PER_CHUNK):
            chunk = table.slice(start, ROWS_PER_CHUNK)
            columns = fitted.encode_table(chunk)
            batch = pa.RecordBatch.from_pydict(columns)
            writer = writer or pa.ipc.new_file(file, batch.schema)
            writer.write_batch(batch)
            if start % (FORGOTTEN * ROWS_PER_CHUNK) == 0:
                forget_pages()
            advance(start + chunk.num_rows)
        assert writer is not None, "a split has at least one row"
        writer.close()
