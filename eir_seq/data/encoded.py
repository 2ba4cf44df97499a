"""Encoded rows: each input of each split is encoded once, kept in an Arrow file, and read from there without copies."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray

import eir_seq
from eir_seq.errors import RunFailed
from eir_seq.modalities.base import FittedModality
from eir_seq.spool import content_hash, forget_pages
from eir_seq.spool import default_folder as default_folder

if TYPE_CHECKING:
    from eir_seq.rows import Rows

log = logging.getLogger(__name__)

FORMAT = 1
"""Changes with the layout of the files, so that older ones are not read."""
ROWS_PER_CHUNK = 1024
FORGOTTEN = 64
"""Chunks after which mapped rows are let go of."""
STALE_SECONDS = 24 * 3600.0
"""A temporary file this old was left by a process that died."""

Progress = Callable[[str, int, int], None]
"""Called with a description, the rows done and the rows in all."""


class EncodedRows:
    """Columns of encoded rows in an Arrow file, mapped into memory.

    Sequences are views of the file: flat int32 values between two offsets. Pickling keeps only the path, so that loader
    processes open the file themselves. Raises `OSError` or `pyarrow.ArrowException` if the file is not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._chunks = pa.ipc.open_file(pa.memory_map(str(self.path)))
        self._batches = [self._chunks.get_batch(index) for index in range(self._chunks.num_record_batches)]
        self.num_rows: int = sum(batch.num_rows for batch in self._batches)
        self._sequences: dict[str, list[tuple[NDArray[np.int32], NDArray[np.int32]]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()

    def __len__(self) -> int:
        return self.num_rows

    def numbers(self, column: str) -> NDArray[np.int32]:
        """A column of one number per row, ``(rows,)``."""
        parts = [batch.column(column).to_numpy() for batch in self._batches]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def sequences(self, column: str, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        """The sequences of some rows, read-only."""
        if column not in self._sequences:
            arrays = [batch.column(column) for batch in self._batches]
            self._sequences[column] = [(array.offsets.to_numpy(), array.values.to_numpy()) for array in arrays]
        chunks, found = self._sequences[column], []
        for row in rows:
            offsets, values = chunks[row // ROWS_PER_CHUNK]
            start = row % ROWS_PER_CHUNK
            found.append(values[offsets[start] : offsets[start + 1]])
        return found


class EncodedInMemory:
    """A few encoded rows that no file holds, e.g. of one request."""

    def __init__(self, fitted: FittedModality, rows: Mapping[str, Sequence[Any]]) -> None:
        self._columns = fitted.encode(rows)

    def numbers(self, column: str) -> NDArray[np.int32]:
        """A column of one number per row, ``(rows,)``."""
        return np.asarray(self._columns[column].to_numpy(), np.int32)

    def sequences(self, column: str, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        """The sequences of some rows, read-only."""
        return [self._columns[column][row].values.to_numpy() for row in rows]


class EncodingCache:
    """A folder of encoded rows, named by the hash of all that they depend on.

    Files appear whole or not at all, so several processes may build the same one at once. Where the folder cannot be
    written, `fallback` (a temporary folder, if absent) takes its place, with one warning.
    """

    def __init__(self, folder: str | Path | None = None, fallback: str | Path | None = None) -> None:
        self.folder = Path(folder).expanduser() if folder is not None else default_folder()
        self._fallback = None if fallback is None else Path(fallback)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._checked = False

    def encode(
        self, rows: Rows, fitted: FittedModality, description: str, progress: Progress | None = None
    ) -> EncodedRows:
        """The encoded rows, from the cache where they are there and intact.

        Raises `RunFailed` where neither the cache folder nor the temporary one takes them (disk full).
        """
        table = rows.select_columns(list(dict.fromkeys(fitted.columns))).table
        state = f"{FORMAT} {eir_seq.__version__} {tokenizers.__version__} {fitted.fingerprint()} {content_hash(table)}"
        name = hashlib.sha256(state.encode()).hexdigest() + ".arrow"
        known = _open_intact(self.folder / name)
        if known is not None:
            return known
        folder = self._writable()
        try:
            return _build(folder / name, table, fitted, description, progress)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            spare = self._spare()
            if folder == spare:
                raise RunFailed(f"{folder}: encoded rows cannot be written: {reason}") from error
            log.warning("%s: encoded rows cannot be cached (%s)", folder, reason)
            self.folder = spare
            return self.encode(rows, fitted, description, progress)

    def _writable(self) -> Path:
        if self._checked:
            return self.folder
        self._checked = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp"):
                pass
            _remove_stale(self.folder)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            spare = self._spare()
            log.warning(
                "%s cannot be written (%s); encoded rows are kept in %s for this run", self.folder, reason, spare
            )
            self.folder = spare
        return self.folder

    def _spare(self) -> Path:
        if self._fallback is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="eir_seq-")
            self._fallback = Path(self._temporary.name)
        try:
            self._fallback.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFailed(f"{self._fallback}: {(error.strerror or str(error)).lower()}") from error
        return self._fallback


def _open_intact(path: Path) -> EncodedRows | None:
    """The file if it is there and whole; one cut off by a power failure has no footer and is built anew."""
    try:
        return EncodedRows(path) if path.exists() else None
    except (OSError, pa.ArrowException):
        return None


def _build(
    path: Path, table: pa.Table, fitted: FittedModality, description: str, progress: Progress | None
) -> EncodedRows:
    """Encode chunk by chunk into a sibling file that takes its name when it is complete and on disk."""
    # not of `tempfile`, whose files are private: others may share the cache
    temporary = path.with_name(f".{path.stem[:16]}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            writer = None
            for start in range(0, table.num_rows, ROWS_PER_CHUNK):
                chunk = table.slice(start, ROWS_PER_CHUNK)
                columns = fitted.encode({name: chunk.column(name).to_pylist() for name in chunk.column_names})
                batch = pa.RecordBatch.from_pydict(columns)
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
                if start % (FORGOTTEN * ROWS_PER_CHUNK) == 0:
                    forget_pages()
                if progress is not None:
                    progress(description, start + chunk.num_rows, table.num_rows)
            assert writer is not None, "a split has at least one row"
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return EncodedRows(path)


def _remove_stale(folder: Path) -> None:
    for entry in folder.glob(".*.tmp"):
        try:
            if time.time() - entry.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except OSError:
            continue
