"""Arrays that cells of the data hold or name: ``.npy`` files, members of ``.npz`` files, lists of numbers."""

from __future__ import annotations

import math
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from eir_seq.errors import nearest
from eir_seq.files import MEGABYTE, open_regular
from eir_seq.modalities.files import MOST_BYTES, is_file, locate, open_cell
from eir_seq.modalities.sequence.tensors.base import shown

NPZ = ".npz"
UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile
)  # fmt: skip
"""What `load_array` raises if there is no array."""


def locate_array(cell: Any, folder: Path, member: str | None = None) -> Any:
    """A file's name as `locate` gives it, with the member after it for a ``.npz`` file; lists as they are.

    Args:
        cell: a list of numbers, or the name of a file, ``FILE.npz:MEMBER`` for one of several arrays.
        folder: where the data file is.
        member: of ``.npz`` files whose cell does not name one.

    Raises:
        ValueError: what `locate` refuses.
    """
    if isinstance(cell, list) and cell and isinstance(cell[0], str):
        raise ValueError(f"is {shown(cell)}, neither an array of numbers nor the name of a file")
    if not isinstance(cell, str):
        return cell
    before, sign, own = cell.rpartition(f"{NPZ}:")
    found = locate(before + NPZ if sign else cell, folder)
    name = own if sign else member
    return [*found, name] if is_file(found) and name is not None and found[0].endswith(NPZ) else found


def is_array_file(cell: Any) -> bool:
    """Whether `locate_array` found a file."""
    return isinstance(cell, list) and len(cell) in (3, 4) and isinstance(cell[0], str)


def name_of(cell: Any) -> str:
    """The file and member of a cell that `locate_array` gave, or its numbers, in readable form."""
    if not is_array_file(cell):
        return shown(cell)
    return ":".join([cell[0], *cell[3:]])


def load_array(cell: Any) -> NDArray[Any]:
    """The array of a cell that `locate_array` gave: 1 to 3 dimensions of integers, floats or truth values.

    ``.npy`` files are mapped into memory. Nothing is unpickled.

    Raises:
        Exception: one of `UNREADABLE`, with the reason.
    """
    if is_array_file(cell):
        array = _from_file(*cell)
    else:
        try:
            array = np.array(cell)
        except ValueError:
            raise ValueError("its lists differ in length") from None
        if array.dtype.hasobject:  # None in the place of NaN
            array = np.array([math.nan if x is None else x for x in array.reshape(-1)]).reshape(array.shape)
    if array.dtype.kind not in "iufb":
        kind = "texts" if array.dtype.kind == "U" else array.dtype
        raise ValueError(f"its values are {kind}, not integers, floats or truth values")
    if not 1 <= array.ndim <= 3 or not array.size:
        raise ValueError(f"it is {shape_text(array.shape)}; 1 to 3 dimensions with elements are expected")
    return array


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape for people: ``3 x 1,000``."""
    return " x ".join(f"{side:,}" for side in shape) or "a single number"


def _from_file(path: str, size: int, time: int, member: str | None = None) -> NDArray[Any]:
    with open_regular(path) as file:
        magic = file.read(6)
    if magic.startswith(b"PK"):
        return _member(_archive(path, size, time), member)
    if magic != npy.MAGIC_PREFIX:
        raise ValueError("it is neither a .npy nor a .npz file")
    open_cell(path).close()
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


@lru_cache(maxsize=2)
def _archive(path: str, size: int, time: int) -> zipfile.ZipFile:
    """An archive, which stays open: rows of a table may be members of the same one."""
    del size, time  # those of another state of the file
    return zipfile.ZipFile(path)


def _member(archive: zipfile.ZipFile, member: str | None) -> NDArray[Any]:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if member is None:
        if len(names) != 1:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(f"it holds {len(names)} arrays ({listed}); name one: FILE.npz:MEMBER")
        member = names[0]
    if member not in names:
        raise ValueError(f"it has no member {member!r}{nearest(member, names)}")
    entry = archive.infolist()[names.index(member)]
    if entry.file_size > MOST_BYTES:
        raise ValueError(
            f"{member!r} has {entry.file_size // MEGABYTE:,} MB; at most {MOST_BYTES // MEGABYTE} are read"
        )
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("its values are Python objects, not numbers")
        count = math.prod(shape)
        content = file.read(count * dtype.itemsize) if count * dtype.itemsize <= entry.file_size else b""
    if len(content) < count * dtype.itemsize:
        raise ValueError(f"{member!r} is truncated")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
