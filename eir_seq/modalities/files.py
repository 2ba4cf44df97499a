"""Files that cells of the data name."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from eir_seq.errors import nearest
from eir_seq.files import MEGABYTE, open_regular, within
from eir_seq.modalities.cells import BASE64, bytes_of

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


NAME = "name"
"""Key of the file name next to the bytes of a file, where it is known."""


def locate_content(cell: Any, folder: Path) -> Any:
    """What a cell names or holds: a file, as `locate` gives it, or its bytes.

    Bytes are in the cell itself or, as in columns of the Hub, under ``bytes`` next to a ``path``.

    Raises:
        ValueError: what `locate` refuses.
    """
    if isinstance(cell, Mapping) and cell.keys() <= {"bytes", "path"}:
        content, path = cell.get("bytes"), cell.get("path")
        if content is None:
            return locate(path, folder)
        cell = {**content, NAME: path} if isinstance(content, Mapping) and isinstance(path, str) else content
    return cell if isinstance(cell, Mapping) else locate(cell, folder)


def is_bytes(cell: Any) -> bool:
    """Whether `locate_content` found bytes."""
    return isinstance(cell, Mapping) and BASE64 in cell


def source_of(cell: Any) -> str | bytes:
    """What to open: the path, or the bytes, that `locate_content` found."""
    if isinstance(cell, Mapping):
        return bytes_of(cell)
    path: str = cell[0]
    return path


def name_of(cell: Any) -> str:
    """What to call what `locate_content` found, in readable form."""
    if isinstance(cell, Mapping):
        return str(cell.get(NAME) or f"{len(bytes_of(cell)):,} bytes")
    path: str = cell[0]
    return path


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
