"""Files that cells of the data name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eir_seq.errors import nearest


def locate(cell: Any, folder: Path) -> Any:
    """A file's name as ``[path, bytes, time]``, so that what was encoded from another state of it is not reused.

    Names are relative to `folder`, in which the data file stands. Where there is no such file, the path is text.
    """
    if not isinstance(cell, str):
        return cell
    path = folder / os.path.expanduser(cell)
    try:
        status = path.stat()
    except OSError:
        return str(path)
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def is_file(cell: Any) -> bool:
    """Whether `locate` found a file."""
    return isinstance(cell, list) and len(cell) == 3 and isinstance(cell[0], str)


def missing(cell: str) -> str:
    """What is wrong with the path of a file that is not there."""
    path = Path(cell)
    close = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
    return f"names {cell}, which is no file{close}"
