"""What the readers of all file formats share: the table they return, opening files safely, collecting faults."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from eir_seq.config.columns import Columns
from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError, nearest

UNPACKED, MOST_RATIO = 1 << 25, 200
"""Bytes that any gzip file may unpack to, and how many times its size beyond; texts shrink to a third or a tenth."""
BLOCK = 1 << 20
FAULTS_SHOWN = 10
"""Faults of one kind that are listed; the rest is counted."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: which one, where it is, and why.

    `before`: readable rows of the file that precede it.
    """

    id: str
    place: str
    reason: str
    before: int


@dataclass(frozen=True)
class RawTable:
    """The wanted columns of one file, as they are in it.

    `lines` holds the line on which each row starts, counted from 1, and `files` the file of each row where every row is
    a file; without both, rows are named by their number.
    `broken` are rows that could not be read at all and were left out on request. `warnings` say what is readable and
    yet looks wrong.
    """

    source: str
    table: pa.Table
    lines: Sequence[int] | None = None
    files: Sequence[str] | None = None
    broken: tuple[BadRow, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        if self.files is not None:
            return self.files[row]
        return f"{self.source} row {row + 1}" if self.lines is None else f"{self.source} line {self.lines[row]}"


class FaultLog:
    """Collects faults by kind and raises them together, a limited number of each kind."""

    def __init__(self) -> None:
        self._faults: dict[str, list[Fault]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, place: str, message: str) -> None:
        """Note one fault; faults of the same `kind` beyond the first few are only counted."""
        self._counts[kind] += 1
        if self._counts[kind] <= FAULTS_SHOWN:
            self._faults.setdefault(kind, []).append(Fault(place, message))

    def extend(self, error: UserError) -> None:
        """Note all faults of an error that was raised elsewhere."""
        self._faults.setdefault("", []).extend(error.faults)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def raise_any(self) -> None:
        """Raise `UserError` if there is any fault."""
        faults: list[Fault] = []
        for kind, listed in self._faults.items():
            faults += listed
            if self._counts[kind] > len(listed):
                faults.append(Fault("", f"... and {self._counts[kind] - len(listed)} more of this kind: {kind}"))
        if faults:
            raise UserError(*faults)


@dataclass(frozen=True)
class Wanted:
    """The columns that an experiment needs and which config key needs each; they may be renamed while reading.

    Values of `structured` columns may be lists and objects; those of `numbers` are read as numbers. `folder`: where
    tables are kept that are too large for memory, by default the user's cache folder.
    """

    places: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    structured: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    folder: str | None = None

    def resolve(self, names: Sequence[str], source: str) -> dict[str, int]:
        """Position of each wanted column among the `names` of a file; raises `UserError` with all that is wrong."""
        renamed = [self.rename.get(name, name) for name in names]
        faults = []
        for name, count in Counter(renamed).items():
            if count > 1 and name in self.places:  # unread columns may have any name
                cause = "" if name in names and names.count(name) == count else " after data.rename"
                faults.append(Fault(source, f"column {name!r} occurs {count} times{cause}; give each its own name"))
        if faults:
            raise UserError(*faults)
        positions = {name: index for index, name in enumerate(renamed)}
        absent: dict[str, list[str]] = {}
        for name, place in self.places.items():
            if name not in positions and name not in self.optional:
                absent.setdefault(place, []).append(name)
        for place, missing in absent.items():
            found = ", ".join(map(repr, renamed[:8])) + (", ..." if len(renamed) > 8 else "")
            near = nearest(missing[0], renamed) if len(missing) == 1 else ""
            faults.append(Fault(place, f"no {_columns(missing)} in {source}{near} (it has {found})"))
        if faults:
            raise UserError(*faults)
        return {name: positions[name] for name in self.places if name in positions}


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"column {names[0]!r}"
    shown = [*map(repr, names)] if len(names) <= FAULTS_SHOWN else [*map(repr, names[:FAULTS_SHOWN])]
    last = shown.pop() if len(names) <= FAULTS_SHOWN else f"{len(names) - FAULTS_SHOWN} more"
    return f"columns {', '.join(shown)} and {last}"


@dataclass(frozen=True)
class Reader:
    """How table files of a format are read.

    `read(path, wanted, place, data)` gives the wanted columns; it calls `Wanted.resolve` as soon as it knows the names
    of all columns. `place` is the config key that names the file, `data` the section. `gzip`: it opens files with
    `open_bytes` or `open_text`, so that they may be compressed.
    """

    read: Callable[[str, Wanted, str, DataConfig], RawTable]
    gzip: bool = False


def wanted_of(columns: Columns, data: DataConfig, optional: frozenset[str] = frozenset()) -> Wanted:
    """What an experiment reads of a table; `optional` columns may be absent, and so may what these are made of."""
    parts = (template.columns for name, template in columns.templates.items() if name in optional)
    optional = optional.union(*parts)
    kinds = {"structured": columns.structured, "numbers": columns.numbers}
    return Wanted(columns.places, optional, data.rename, **kinds, folder=data.cache_dir)


# ------------------------------------------------------------------------------------------------------- opening


def check_file(path: str, place: str) -> None:
    """Raise `UserError` unless `path` is a regular, readable file with something in it."""
    try:
        status = os.stat(path)
    except OSError as error:
        message = f"no such file: {path}{_neighbour(path)}" if isinstance(error, FileNotFoundError) else _reason(error)
        raise UserError(Fault(place, message)) from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(Fault(place, f"{path} is a folder, not a file"))
    if not stat.S_ISREG(status.st_mode):
        raise UserError(Fault(place, f"{path} is a pipe, socket or device, not a regular file"))
    if status.st_size == 0:
        raise UserError(Fault(place, f"{path} is empty"))


def _neighbour(path: str) -> str:
    folder = Path(path).parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return nearest(Path(path).name, names)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {(error.strerror or str(error)).lower()}"


@contextmanager
def reading(path: str, place: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a `UserError` that names the file."""
    try:
        yield
    except UnicodeDecodeError:
        raise UserError(Fault(place, f"{path} is not UTF-8: {undecodable(path)}")) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(Fault(place, f"{path}: the compressed file is truncated or damaged ({error})")) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # the machine's fault, whatever the file
        if error.errno is None:
            raise UserError(Fault(place, f"{path}: {_first_line(error)}")) from None
        raise UserError(Fault(place, _reason(error))) from None
    except pa.ArrowException as error:
        raise UserError(Fault(place, f"{path} is truncated or damaged ({_first_line(error)})")) from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


class _Unpacked(gzip.GzipFile):
    """A gzip file that ends with an `OSError` where a few bytes become very many, as no table's do."""

    def read(self, size: int | None = -1) -> bytes:
        """See `gzip.GzipFile.read`."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(BLOCK), b""))
        return self._checked(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        """See `gzip.GzipFile.read1`."""
        return self._checked(super().read1(size))

    def readline(self, size: int | None = -1) -> bytes:
        """See `gzip.GzipFile.readline`."""
        if size is not None and size >= 0:
            return self._checked(super().readline(size))
        line = bytearray()
        while part := self.readline(BLOCK):
            line += part
            if part.endswith(b"\n"):
                break
        return bytes(line)

    def _checked(self, content: bytes) -> bytes:
        packed: Any = self.fileobj
        if self.tell() > max(UNPACKED, MOST_RATIO * packed.tell()):
            message = f"its first {self.tell() >> 20:,} MB are packed to less than 1/{MOST_RATIO} of that"
            raise OSError(f"{message}; if it is a table, unpack it first")
        return content


def open_bytes(path: str) -> IO[bytes]:
    """A file as bytes, decompressed where it is gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return _Unpacked(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


@contextmanager
def open_text(path: str, place: str, *, errors: str = "strict") -> Iterator[IO[str]]:
    """A UTF-8 file as text, with or without a byte order mark, line ends as they are.

    With ``errors="surrogateescape"`` undecodable bytes are read as lone surrogates, so that a reader may pass over
    those in unread columns.
    """
    with reading(path, place), open_bytes(path) as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(Fault(place, f"{path} is UTF-16; save it as UTF-8"))
        if start == b"PK\x03\x04":
            raise UserError(Fault(place, f"{path} is a zip archive or an Excel workbook; save the table as CSV"))
        file.seek(0)
        yield io.TextIOWrapper(file, encoding="utf-8-sig", errors=errors, newline="")


def has_surrogate(text: str) -> bool:
    """Whether a text holds half a character, or a byte that ``errors="surrogateescape"`` let pass."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def undecodable(path: str, first_line: int = 1) -> str:
    """Where the first bytes that are not UTF-8 are, from a line on."""
    offset, line = 0, 1
    with open_bytes(path) as file:
        # Bytes of one line never reach into the next: a line feed is no part of a longer UTF-8 character.
        for text in file:
            try:
                if line >= first_line:
                    text.decode("utf-8")
            except UnicodeDecodeError as error:
                found = text[error.start : error.start + 1]
                return f"byte 0x{found.hex()} at offset {offset + error.start}, line {line}; save the file as UTF-8"
            offset, line = offset + len(text), line + 1
    return "its last character is cut off"


def file_record(path: str, table: pa.Table) -> dict[str, Any]:
    """What the manifest says about a file: path, sha256 of its bytes, rows and columns."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return {
        "path": os.path.abspath(path),
        "sha256": digest.hexdigest(),
        "rows": table.num_rows,
        "columns": table.column_names,
    }
