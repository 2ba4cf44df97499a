"""What a report shows of explained rows: their texts with coloured tokens, and the tokens that matter most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eir_seq import __version__
from eir_seq.explanations.records import Attribution, Token
from eir_seq.inference.page import environment
from eir_seq.outputs.reporting.sections import Cell, Table
from eir_seq.training.folder import write_text

SHOWN_ROWS, OPEN_ROWS = 60, 8
"""Rows of an output that a page has, and that are shown without being asked for."""
SHOWN_TOKENS = 2000
"""Tokens of a row that a page has."""
MOST_TOKENS = 100_000
"""Tokens of all rows of an output that a page has."""
TOP_TOKENS, TOP_TARGETS = 10, 12
STRONGEST = 0.8
"""Opacity of the strongest colour."""


@dataclass(frozen=True)
class Piece:
    """A part of a text, what it adds to the score, and how it is coloured: -1 to 1 of the strongest of its row."""

    text: str
    value: float
    share: float

    @property
    def sign(self) -> str:
        """The name of its colour."""
        return "plus" if self.value > 0 else "minus"

    @property
    def opacity(self) -> str:
        """Of its colour."""
        return f"{STRONGEST * abs(self.share):.2f}"


@dataclass(frozen=True)
class ExplainedRow:
    """A score of a row, with what stands in each column that was explained."""

    row: Attribution
    texts: Sequence[tuple[str, Sequence[Piece]]]
    cut: bool
    inexact: float
    """Share of all absolute attributions by which their sum is wrong."""


@dataclass(frozen=True)
class AttributionSection:
    """What was explained of one output by one input."""

    input: str
    output: str
    what: str
    splits: str
    rows: Sequence[ExplainedRow]
    left_out: int
    tables: Sequence[Table]

    @property
    def open(self) -> Sequence[ExplainedRow]:
        """The rows that are shown without being asked for."""
        return self.rows[:OPEN_ROWS]

    @property
    def further(self) -> Sequence[ExplainedRow]:
        """The others."""
        return self.rows[OPEN_ROWS:]


def attribution_sections(found: Sequence[Attribution]) -> list[AttributionSection]:
    """One section for each input and output."""
    groups: dict[tuple[str, str], list[Attribution]] = {}
    for row in found:
        groups.setdefault((row.input, row.output), []).append(row)
    sections = []
    for (input_, output), rows in groups.items():
        shown, tokens = [], 0
        for row in _in_turns(rows)[:SHOWN_ROWS]:
            tokens += min(len(row.tokens), SHOWN_TOKENS)
            if tokens <= MOST_TOKENS:
                shown.append(_shown(row))
        sections.append(
            AttributionSection(
                input=input_,
                output=output,
                what=rows[0].what,
                splits=" and ".join(dict.fromkeys(row.split for row in rows)),
                rows=shown,
                left_out=len(rows) - len(shown),
                tables=_top_tables(rows),
            )
        )
    return sections


def write_page(path: Path, title: str, found: Sequence[Attribution]) -> None:
    """A page with the sections alone, of rows that a bundle has predicted."""
    sections = attribution_sections(found)
    page = environment().get_template("attributions_page.html.j2")
    write_text(path, page.render(title=title, attributions=sections, version=__version__))


def _in_turns(rows: Sequence[Attribution]) -> list[Attribution]:
    """The rows so that each target has its turn."""
    by_target: dict[str, list[Attribution]] = {}
    for row in rows:
        by_target.setdefault(row.target, []).append(row)
    longest = max(map(len, by_target.values()))
    return [own[turn] for turn in range(longest) for own in by_target.values() if turn < len(own)]


def _shown(row: Attribution) -> ExplainedRow:
    tokens = row.tokens[:SHOWN_TOKENS]
    strongest = max((abs(token.value) for token in tokens), default=0.0)
    texts = [
        (column, _pieces([token for token in tokens if token.column == column], strongest))
        for column in dict.fromkeys(token.column for token in tokens)
    ]
    total = sum(abs(token.value) for token in row.tokens)
    inexact = abs(row.gap) / total if total else 0.0
    return ExplainedRow(row, texts, len(row.tokens) > len(tokens), inexact)


def _pieces(tokens: Sequence[Token], strongest: float) -> list[Piece]:
    """The text, piece by piece; tokens that share characters, as bytes of one letter do, are one piece."""
    found: list[Piece] = []
    end: int | None = None
    for token in tokens:
        apart = 0 if token.start is None or end is None else token.start - end
        if apart < 0:
            found[-1] = Piece(found[-1].text + token.text[-apart:], found[-1].value + token.value, 0.0)
        else:
            found += [Piece(" ", 0.0, 0.0)] * (apart > 0)
            found.append(Piece(token.text, token.value, 0.0))
        end = token.end if end is None or token.end is None else max(end, token.end)
    scale = max(strongest, max((abs(piece.value) for piece in found), default=0.0))
    return [replace(piece, share=piece.value / scale if scale else 0.0) for piece in found]


def _top_tables(rows: Sequence[Attribution]) -> list[Table]:
    """For each target the tokens whose attributions, summed up in each row, have the largest mean over its rows."""
    targets = list(dict.fromkeys(row.target for row in rows))[:TOP_TARGETS]
    tables = []
    for target in targets:
        own = [row for row in rows if row.target == target]
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for row in own:
            for token in row.tokens:
                sums[token.text.strip()] = sums.get(token.text.strip(), 0.0) + token.value
            for text in {token.text.strip() for token in row.tokens}:
                counts[text] = counts.get(text, 0) + 1
        order = sorted((text for text in sums if text), key=lambda text: (-abs(sums[text]), text))[:TOP_TOKENS]
        cells: list[list[Cell]] = [[text, sums[text] / len(own), counts[text]] for text in order]
        tables.append(
            Table(f"{target}: mean over {len(own)} row{'s' * (len(own) > 1)}", ["Token", "Attribution", "Rows"], cells)
        )
    return tables
