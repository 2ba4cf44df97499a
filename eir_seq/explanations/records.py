"""What was found, as the table of attributions and the report have it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from eir_seq.files import MEGABYTE, read_text

TABLE = "predictions/attributions.csv"
"""The table of a run."""
RECORDS = "report/attributions.json"
"""The same for the report."""
MOST_BYTES = 256 * MEGABYTE
COLUMNS = (
    "id", "split", "input", "output", "target", "role", "score", "baseline_score",
    "position", "column", "start", "end", "token", "attribution",
)  # fmt: skip


class Token(BaseModel):
    """A part of a row, see `eir_seq.modalities.attributable.Unit`, and what it adds to the score."""

    model_config = ConfigDict(frozen=True)

    position: int
    column: str
    text: str
    start: int | None
    end: int | None
    value: float


class Attribution(BaseModel):
    """One score of one row, divided among the parts of one input.

    Attributes:
        id: of the row.
        split: that it is of.
        input: whose parts these are.
        output: whose score it is.
        what: what the score is, for people.
        target: its name: a class, a label, a column, an event.
        role: of a class: ``predicted``, ``true``, both, or ``highest``.
        score: of the row.
        baseline_score: of the row without information in this input.
        tokens: the parts.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    split: str
    input: str
    output: str
    what: str
    target: str
    role: str
    score: float
    baseline_score: float
    tokens: list[Token]

    @property
    def gap(self) -> float:
        """By how much the attributions miss the difference of the scores."""
        return sum(token.value for token in self.tokens) - (self.score - self.baseline_score)


_RECORDS = TypeAdapter(list[Attribution])


def columns(found: Iterable[Attribution]) -> dict[str, list[Any]]:
    """The table of attributions by column, one line for each token of each score of each row."""
    lines = [
        (
            *(row.id, row.split, row.input, row.output, row.target, row.role, row.score, row.baseline_score),
            *(token.position, token.column, "" if token.start is None else token.start),
            *("" if token.end is None else token.end, token.text, token.value),
        )
        for row in found
        for token in row.tokens
    ]
    return {name: [line[number] for line in lines] for number, name in enumerate(COLUMNS)}


def dumped(found: list[Attribution]) -> str:
    """As JSON."""
    return _RECORDS.dump_json(found).decode()


def loaded(path: Path) -> list[Attribution]:
    """What `dumped` gave; nothing where there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    return _RECORDS.validate_json(read_text(path, MOST_BYTES)) if path.exists() else []
