"""Files that cells of the data name."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Any

from eir_seq.errors import nearest
from eir_seq.files import MEGABYTE, open_regular, within

MOST_BYTES = 256 * MEGABYTE
"""Of a file that a cell names."""


def locate(cell: Any, folder: Path) -> Any:
    """A file's name as ``[path, bytes, time]``, so that what was encoded from another state of it is not reused.

    Names are relative to `folder`: `data.file_dir`, or that of the data file. Where there is no such file, the path is
    text.

    Raises:
        ValueError: it is no regular file, or lies outside of the folder, by name or by a link.
    """
    if is_file(cell):
        raise ValueError(f"is {str(cell)[:40]}, not the name of a file")
    if not isinstance(cell, str):
        return cell
    path = folder / os.path.expanduser(cell)
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"names {path}, outside of the folder {folder} (data.file_dir)")
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path)
    if not within(path, folder):
        raise ValueError(f"names {path}, a link that leads out of the folder {folder} (data.file_dir)")
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ValueError(f"names {path}, {kind}, not a regular file")
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def is_file(cell: Any) -> bool:
    """Whether `locate` found a file."""
    return isinstance(cell, list) and len(cell) == 3 and isinstance(cell[0], str)


def open_cell(path: str) -> IO[bytes]:
    """The file that a cell names; raises `OSError` if it is no regular file any more, or too large."""
    return open_regular(path, MOST_BYTES)


def missing(cell: str) -> str:
    """What is wrong with the path of a file that is not there."""
    path = Path(cell)
    close = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
    return f"names {cell}, which is no file{close}"
