"""Predictions that no cell of a table holds, such as arrays and pictures: each is written to a file of its own.

`FittedOutput.decode` gives a `FileCell` for each row. The table of predictions then names its file, and Python code
(`eir_seq.inference.predictor.Predictor`) gets its value.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.machine import writing

_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class FileCell:
    """One prediction that is written to a file.

    Attributes:
        make: gives the value; it is called when it is needed, so that not all of them are in memory.
        suffix: of the file, such as ``.npy``.
        encode: the value as the bytes of the file.

    Example:
        >>> cell = FileCell(lambda: [1, 2], ".txt", lambda value: str(value).encode())
        >>> cell.value, cell.content
        ([1, 2], b'[1, 2]')
    """

    make: Callable[[], Any]
    suffix: str
    encode: Callable[[Any], bytes]

    @property
    def value(self) -> Any:
        """What is predicted."""
        return self.make()

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.encode(self.make())


def value_of(cell: Any) -> Any:
    """What a column of predictions holds for Python code: the value of a `FileCell`, others as they are."""
    return cell.value if isinstance(cell, FileCell) else cell


def file_stems(ids: Sequence[str]) -> list[str]:
    """Names for the files of rows: their ids where all of these are plain and differ; else their numbers, from 1.

    >>> file_stems(["a", "b-2"]), file_stems(["a", "A"]), file_stems(["../a"])
    (['a', 'b-2'], ['1', '2'], ['1'])
    """
    if all(map(_SAFE.fullmatch, ids)) and len({name.casefold() for name in ids}) == len(ids):
        return list(ids)
    return [str(number + 1) for number in range(len(ids))]


def files_folder(table: Path) -> Path:
    """The folder of the files of a table of predictions: ``NAME.files`` next to ``NAME.csv``."""
    return table.with_name(f"{table.name.removesuffix('.csv')}.files")


class PredictedFiles:
    """The files of a table of predictions, ``NAME.files/COLUMN/ROW.SUFFIX``; they take their places with the table.

    Args:
        table: the path of the table, next to which the folder is.
    """

    def __init__(self, table: Path) -> None:
        self.folder = files_folder(table)
        self._new = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.partial")
        self._old = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.old")

    def written(self, columns: Sequence[tuple[str, Sequence[Any]]]) -> list[tuple[str, Sequence[Any]]]:
        """The columns with the path of a file, relative to the table, in place of each `FileCell`.

        Args:
            columns: name and values of each; the first are the ids.
        """
        stems: list[str] = []
        found: list[tuple[str, Sequence[Any]]] = []
        for name, values in columns:
            if not any(isinstance(value, FileCell) for value in values):
                found.append((name, values))
                continue
            stems = stems or file_stems([str(row) for row in columns[0][1]])
            (self._new / name).mkdir(parents=True)
            paths = []
            for stem, value in zip(stems, values, strict=True):
                if not isinstance(value, FileCell):
                    paths.append(value)
                    continue
                path = self._new / name / f"{stem}{value.suffix}"
                with writing(self.folder, path):
                    path.write_bytes(value.content)
                paths.append(f"{self.folder.name}/{name}/{path.name}")
            found.append((name, paths))
        return found

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the new files in the place of former ones; if the block raises, put those back."""
        if not self._new.exists():
            yield
            return
        if self.folder.exists():
            os.rename(self.folder, self._old)
        try:
            os.rename(self._new, self.folder)
            yield
        except BaseException:
            if self.folder.exists() and not self._new.exists():
                os.rename(self.folder, self._new)
            if self._old.exists():
                os.rename(self._old, self.folder)
            raise

    def tidy(self) -> None:
        """Remove what is left of former files, or of new ones that did not take their places."""
        for folder in (self._new, self._old):
            shutil.rmtree(folder, ignore_errors=True)
