"""Files that others named or made: opened only where they are regular files, and read up to a size.

All faults are an `OSError` with one sentence, which callers put next to the name of the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TextIO

MEGABYTE = 1 << 20
CONFIG = 4 * MEGABYTE
"""Bytes of a config.json; published ones name 20,000 classes in less than two megabytes."""
SMALL = 16 * MEGABYTE
"""Bytes of a text file that is read whole: configs, settings, lists of special tokens."""


def default_folder() -> Path:
    """The user's cache folder: ``$XDG_CACHE_HOME/eir_seq``, by default ``~/.cache/eir_seq``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "eir_seq"


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> IO[bytes]:
    """A file, open for reading.

    A pipe is not waited for: it is refused as devices, sockets and folders are.

    Args:
        path: its name.
        most: bytes that it may have.

    Raises:
        OSError: there is none, it is no regular file, or larger than `most`.

    >>> open_regular(os.devnull)
    Traceback (most recent call last):
    OSError: a pipe, socket or device, not a regular file
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise OSError("a pipe, socket or device, not a regular file")
        if most is not None and status.st_size > most:
            raise OSError(_too_large(status.st_size, most))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_small(path: str | os.PathLike[str], most: int = SMALL) -> bytes:
    """The bytes of a regular file that has at most `most`; raises `OSError` as `open_regular`."""
    with open_regular(path, most) as file:
        content = file.read(most + 1)  # what the system makes up (/proc) claims no size
    if len(content) > most:
        raise OSError(_too_large(len(content), most))
    return content


def open_text(path: str | os.PathLike[str]) -> TextIO:
    """A regular file as UTF-8 text, line ends as they are; raises `OSError` as `open_regular`."""
    return io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="")


def reason(error: OSError) -> str:
    """What an error says, whether it is the system's or of `open_regular`."""
    return error.strerror or str(error)


def read_text(path: str | os.PathLike[str], most: int = SMALL) -> str:
    """The same as text; raises `UnicodeDecodeError` if it is not UTF-8."""
    return read_small(path, most).decode("utf-8")


def read_json(path: str | os.PathLike[str], most: int = SMALL) -> Any:
    """The contents of a JSON file; raises `OSError` as `open_regular`, and `ValueError` where it is no JSON."""
    try:
        return json.loads(read_text(path, most))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV with ``\\n`` between them.

    Readers end a line at a lone carriage return, too, which Python's writer does not quote: then all cells are quoted.

    >>> csv_text([["id", "text"], [1, "a\\rb"]])
    '"id","text"\\n"1","a\\rb"\\n'
    """
    rows = [list(row) for row in rows]
    returns = any(isinstance(cell, str) and "\r" in cell for row in rows for cell in row)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(rows)
    return text.getvalue()


def within(path: Path, folder: Path) -> bool:
    """Whether a file lies in `folder` once all links are followed; one named outside of it, in the folder named.

    So ``../pictures/a.png`` and absolute names mean what they say, and a link leads nowhere else.
    """
    written = Path(os.path.abspath(path))
    base = Path(os.path.abspath(folder))
    if not written.is_relative_to(base):
        base = written.parent
    return Path(os.path.realpath(written)).is_relative_to(os.path.realpath(base))


def _too_large(size: int, most: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB; at most {most // MEGABYTE:,} MB are read"


def hash_file(path: Path, size: int | None = None) -> str:
    """The sha256 of a file or of its first `size` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with open_regular(path) as file:
        while block := file.read(min(left, 1 << 20)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
