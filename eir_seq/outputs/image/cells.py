"""How the column of an output of pictures is read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.file_cells import MOST, FileCells, most_frequent
from eir_seq.modalities.files import is_bytes, is_file, locate_content, name_of
from eir_seq.modalities.pictures import picture_size, problem
from eir_seq.outputs.image.config import ImageOutputConfig


@dataclass
class TargetPictures(FileCells):
    """The column of pictures of an output. Without `size` most of the first ones decide the size."""

    SECTION: ClassVar[str] = "outputs"

    name: str
    config: ImageOutputConfig
    size: tuple[int, int] | None = None
    is_fitted: bool = False

    def find(self, text: str, folder: Path) -> Any:
        """The picture of a cell; raises `ValueError` with the reason if there is none."""
        return locate_content(parse_cell(text), folder)

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """The size."""
        if self.size is None and self.config.size is None:
            self.size = most_frequent(map(_size, cells))

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the picture of a row."""
        found = False
        for fault in problem(cell, self.config.channels):
            found = True
            yield fault
        if found or self.config.size is not None:
            return
        try:
            check_size(cell, self.size, "the model predicts" if self.is_fitted else MOST)
        except ValueError as error:
            yield str(error)
        else:
            self.size = self.size or picture_size(cell)


def _size(cell: Any) -> tuple[int, int] | None:
    """That of the picture of a cell, if there is one."""
    try:
        return picture_size(cell) if is_file(cell) or is_bytes(cell) else None
    except ValueError:
        return None


def check_size(cell: Any, size: tuple[int, int] | None, others: str = "the model predicts") -> None:
    """Raise `ValueError` unless the picture of a cell has this height and width; None: any.

    Args:
        cell: as `TargetPictures.find` gave it.
        size: height and width.
        others: what has that size, for messages.
    """
    found = picture_size(cell)
    if size is not None and found != size:
        height, width = found
        what = f"{name_of(cell)}, a picture of {height} x {width} pixels (height x width)"
        raise ValueError(f"names {what}; {others} {size[0]} x {size[1]}: give `size` to resize")
