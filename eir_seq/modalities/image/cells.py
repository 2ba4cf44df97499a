"""How the column of an image input is read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.image.config import ImageInputConfig
from eir_seq.modalities.pictures import Pixels, Scaling, locate_picture, name_of, problem, source_of


@dataclass(frozen=True)
class PictureCells:
    """The column of an image input: names of files, or the bytes of pictures."""

    name: str
    config: ImageInputConfig

    is_demanding = True

    @property
    def column(self) -> str:
        """The column of pictures."""
        return self.config.column

    @property
    def places(self) -> dict[str, str]:
        """The column of pictures, and the config key that names it."""
        return {self.config.column: f"inputs.{self.name}.column"}

    @property
    def resolved(self) -> frozenset[str]:
        """Columns whose cells change as their files are found."""
        return frozenset({self.config.column})

    def read(self, column: str, text: str | None, folder: Path) -> Any:  # noqa: ARG002
        """The picture of a cell; raises `ValueError` with the reason where there is none."""
        if not text or text.isspace():
            raise ValueError("is missing" if text is None else "is empty")
        return locate_picture(parse_cell(text), folder)

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG002
        """What is wrong with the picture of a row."""
        for found in problem(values[self.config.column], self.config.channels):
            yield f"{self.config.column!r} {found}"


def pixels_of(text: str, scaling: Scaling, column: str) -> Pixels:
    """The pixels of a checked cell, (height, width, channels); raises `UserError` where a picture is broken inside."""
    cell = parse_cell(text)
    return scaling.pixels(source_of(cell), f"{name_of(cell)} in column {column!r}")


def shown(text: str) -> str:
    """The name of a checked cell's picture."""
    return name_of(parse_cell(text))
