"""The column of an input whose cells name files, or hold what those files would."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")
MOST = "most training rows have"
"""Who has the shape that a row does not have, in messages."""


class FileCells(ABC):
    """How the one column of an input or output is read and checked, see `eir_seq.modalities.base.Cells`.

    Attributes:
        name: of the input or output.
        config: its section, with a `column`.
    """

    SECTION: ClassVar[str] = "inputs"
    """Of the config."""

    name: str
    config: Any

    checks_rows = True

    @property
    def column(self) -> str:
        """The column."""
        column: str = self.config.column
        return column

    @property
    def places(self) -> dict[str, str]:
        """The column, and the config key that names it."""
        return {self.column: f"{self.SECTION}.{self.name}.column"}

    @property
    def file_columns(self) -> frozenset[str]:
        """Columns whose cells change as their files are found."""
        return frozenset({self.column})

    def read(self, column: str, text: str | None, folder: Path) -> Any:
        """What a cell names; raises `ValueError` with the reason if it names nothing."""
        del column
        if not text or text.isspace():
            raise ValueError("is missing" if text is None else "is empty")
        return self.find(text, folder)

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with the cell of a row."""
        del text
        for problem in self.faults(values[self.column]):
            yield f"{self.column!r} {problem}"

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """Decide by some training rows, before all are checked, what must be the same in each, such as a shape.

        Args:
            cells: what `find` gave.
        """
        del cells

    @abstractmethod
    def find(self, text: str, folder: Path) -> Any:
        """The file of a cell that is not blank, relative to `folder`; raises `ValueError` with the reason."""

    @abstractmethod
    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with what `find` gave."""


def most_frequent(found: Iterable[T | None]) -> T | None:
    """What is there most often but for None, of several the first; None if there is nothing.

    >>> most_frequent([(9,), (3,), None, (3,)])
    (3,)
    """
    counts = Counter(one for one in found if one is not None)
    return counts.most_common(1)[0][0] if counts else None
