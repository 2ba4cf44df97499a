"""Texts that are made of several columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


@dataclass(frozen=True)
class Template:
    """A text with names of columns in braces, such as ``{title}: {body}``.

    Attributes:
        pieces: ordinary text, and columns, in turn: (text, True) stands for a column.
    """

    pieces: tuple[tuple[str, bool], ...]

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> Template:
        """The template that a text is; ``{{`` and ``}}`` are braces.

        Raises:
            ValueError: a brace has no other, a name is empty, or there is no column.

        Example:
            >>> Template.parse("{title}: {body} {{x}}").columns
            ('title', 'body')
        """
        pieces: list[tuple[str, bool]] = []
        for match in _PIECES.finditer(text):
            found = match.group()
            if found in ("{{", "}}"):
                pieces.append((found[0], False))
            elif found in ("{", "}"):
                raise ValueError(f"has a single {found!r} at character {match.start() + 1}; write {found * 2} for one")
            elif match.group(1) is not None:
                if not match.group(1):
                    raise ValueError(f"has no name of a column in the braces at character {match.start() + 1}")
                pieces.append((match.group(1), True))
            else:
                pieces.append((found, False))
        if not any(is_column for _, is_column in pieces):
            raise ValueError("names no column; write {NAME} for the text of one")
        return cls(tuple(pieces))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, each once, in the order of the text."""
        return tuple(dict.fromkeys(text for text, is_column in self.pieces if is_column))

    def filled(self, parts: Sequence[str | None]) -> str | None:
        """The text of a row; None where all of its parts are missing or blank.

        Args:
            parts: of the `columns`; one that is None is empty.
        """
        if not any(part is not None and part.strip() for part in parts):
            return None
        by_column = dict(zip(self.columns, parts, strict=True))
        return "".join((by_column[text] or "") if is_column else text for text, is_column in self.pieces)
