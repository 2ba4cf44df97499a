"""How the column of an image input is read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.file_cells import FileCells
from eir_seq.modalities.files import locate_content, name_of, source_of
from eir_seq.modalities.image.config import ImageInputConfig
from eir_seq.modalities.pictures import Pixels, Scaling, problem, thumbnail


@dataclass(frozen=True)
class PictureCells(FileCells):
    """The column of an image input: names of files, or the bytes of pictures."""

    name: str
    config: ImageInputConfig

    def find(self, text: str, folder: Path) -> Any:
        """The picture of a cell; raises `ValueError` with the reason if there is none."""
        return locate_content(parse_cell(text), folder)

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the picture of a row."""
        yield from problem(cell, self.config.channels)


def pixels_of(text: str, scaling: Scaling, column: str) -> Pixels:
    """The pixels of a checked cell, (height, width, channels); raises `UserError` if a picture is broken inside."""
    cell = parse_cell(text)
    return scaling.pixels(source_of(cell), f"{name_of(cell)} in column {column!r}")


def thumbnails(cells: Iterable[str]) -> list[bytes]:
    """A small PNG of the picture in each checked cell; raises `UserError` if one is broken inside."""
    return [thumbnail(source_of(parse_cell(cell))) for cell in cells]


def shown(text: str) -> str:
    """The name of a checked cell's picture."""
    return name_of(parse_cell(text))
