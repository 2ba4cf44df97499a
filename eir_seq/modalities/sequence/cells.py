"""How the cells of a sequence input are read and checked: texts, lists of words, HTML, and what accompanies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.html import read_html
from eir_seq.modalities.sequence.tensors.base import Content, TensorSource, shown


@dataclass(frozen=True)
class InputCells:
    """How the cells of an input are read, and what is demanded of them."""

    name: str
    config: SequenceInputConfig
    sources: Mapping[str, TensorSource] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """The column of the text."""
        return self.config.column

    @cached_property
    def places(self) -> dict[str, str]:
        """Columns that hold such cells, and the config key of each."""
        place = f"inputs.{self.name}"
        found = {self.config.column: f"{place}.column"} if self.config.is_split_into_words else {}
        for kind, source in self.sources.items():
            if source.column is not None:
                found.setdefault(source.column, f"{place}.tensors.{kind}.column")
        return found

    @property
    def checks_rows(self) -> bool:
        """Whether rows have to be checked beyond their texts."""
        return bool(self.places or self.sources)

    @property
    def is_html(self) -> bool:
        """Whether the text column holds HTML."""
        return self.config.tensors.xpaths is not None and self.config.tensors.xpaths.html

    @cached_property
    def file_columns(self) -> frozenset[str]:
        """Columns whose cells change as their files are found."""
        found = (source.column for source in self.sources.values() if type(source).resolve is not TensorSource.resolve)
        return frozenset(column for column in found if column is not None)

    def read(self, column: str, text: str | None, folder: Path) -> Any:
        """The value of a cell, its files found; raises `ValueError` with the reason where it is none."""
        if not text:
            raise ValueError("is missing" if text is None else "is empty")
        value = parse_cell(text)
        for source in self.sources.values():
            if source.column == column:
                value = source.resolve(value, folder)
        return value

    def content(self, text: str) -> Content:
        """What is in the text column."""
        if self.config.is_split_into_words:
            return Content(words=parse_cell(text))
        if self.is_html:
            words, xpaths = read_html(text)
            return Content(words=words, xpaths=xpaths)
        return Content(text=text)

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """Nothing: texts have no shape."""
        del cells

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:
        """All that is wrong with a row: what is in its text column and the values of its other columns."""
        column = self.config.column
        if self.config.is_split_into_words:
            problem = _words_problem(values[column])
            if problem is not None:
                yield f"{column!r} {problem}"
                return
        content = self.content(text)
        if self.is_html and not content.words:
            yield f"{column!r} is HTML without any text"
            return
        for source in self.sources.values():
            if source.column is not None and source.column in values:
                for problem in source.problems(values[source.column], content):
                    yield f"{source.column!r} {problem}"


def _words_problem(value: Any) -> str | None:
    """Why the value is no list of words."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return f'is {shown(value)}, not a list of words such as ["a", "b"] (is_split_into_words)'
    if not any(word.strip() for word in value):
        return "has no word"
    if any("\0" in word for word in value):
        return "has a NUL character"
    return None
