"""The section of a report that a kind of output fills, and what it is given for that.

A kind names a function in `OutputBase.REPORT` that takes `Predicted` and gives a `Section`, or None if there is
nothing to show. It reads its own columns of the table of predictions, as its `truth` and `decode` name them.

Example:
    >>> from eir_seq.outputs.reporting.sections import Predicted, Section
    >>> def section(predicted: Predicted) -> Section:
    ...     right = sum(a == b for a, b in zip(predicted["kind_true"], predicted["kind"]))
    ...     return Section(notes=[f"{right} of {len(predicted.ids)} rows are right."])
    >>> given = Predicted("kind", "test", ["1", "2"], {"kind_true": ["a", "b"], "kind": ["a", "a"]}, {}, {}, [])
    >>> section(given).notes
    ['1 of 2 rows are right.']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

if TYPE_CHECKING:  # what plots imports matplotlib
    from eir_seq.outputs.reporting.plots import Plot

Cell = str | int | float | None
"""Of a table; None is undefined and shown as a dash."""


class WorstRow(BaseModel):
    """A row on which the model is most wrong, with what was in its inputs."""

    id: str
    error: float
    """As `FittedOutput.errors` measures it."""
    inputs: dict[str, str]


@dataclass(frozen=True)
class ShownRows:
    """Arrays that an output predicts of a few rows, as `FittedOutput.samples` gives them.

    Attributes:
        ids: of the rows.
        errors: of the rows, as `FittedOutput.errors` measures them.
        even: how many of the rows are evenly spaced ones; the others are the worst.
        arrays: by name, each (rows, ...).
    """

    ids: Sequence[str]
    errors: Sequence[float]
    even: int
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Predicted:
    """What a run left of one output on one split.

    Attributes:
        name: of the output.
        split: validation or test.
        ids: id of each row.
        columns: of the table of predictions, those of all outputs, by their names; every value as text.
        described: what `FittedOutput.describe` said.
        metrics: by name.
        worst: the rows on which the model is most wrong, worst first.
        samples: of outputs that have `SAMPLE_ROWS`: by step, and by split at the end, what is predicted of some rows.
    """

    name: str
    split: str
    ids: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    described: Mapping[str, object]
    metrics: Mapping[str, float]
    worst: Sequence[WorstRow]
    samples: Mapping[str, ShownRows] = field(default_factory=dict)

    def __getitem__(self, column: str) -> Sequence[str]:
        """The values of a column, in row order."""
        return self.columns[column]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """The values of a column of numbers, (rows,); not a number where a cell is empty."""
        values = self.columns[column]
        return np.fromiter((float(value or "nan") for value in values), np.float64, len(values))

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def worst_rows(self, show: Callable[[int, WorstRow], Worst]) -> list[Worst]:
        """What `show` makes of each of the worst rows, by its position in the columns."""
        return list(self._worst_rows(show))

    def _worst_rows(self, show: Callable[[int, WorstRow], Worst]) -> Iterator[Worst]:
        positions = {row: position for position, row in enumerate(self.ids)}
        for row in self.worst:
            if row.id in positions:
                yield show(positions[row.id], row)


@dataclass(frozen=True)
class Worst:
    """A row of the table of worst rows.

    Attributes:
        row: which, with its inputs.
        true: what is true of it.
        predicted: what was predicted.
        detail: how wrong that is.
        wrong: whether the prediction is marked as wrong.
    """

    row: WorstRow
    true: str
    predicted: str
    detail: str
    wrong: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a section; its first column names the rows.

    Attributes:
        caption: above it.
        columns: titles.
        rows: cells, as many as there are columns; numbers are rounded for people.
        texts: how many of the first columns hold text, which is at the left.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: int = 1


@dataclass(frozen=True)
class Share:
    """A cell of a confusion matrix: a count, and its share of the row."""

    count: int
    share: float


@dataclass
class Section:
    """One output on one split, in the order in which a page shows it.

    Attributes:
        notes: sentences.
        plots: see `eir_seq.outputs.reporting.plots`.
        heading: of the tables.
        matrix: a confusion matrix: for each true class its name and the cell of each predicted class.
        tables: further tables.
        worst_title: of the table of worst rows.
        worst_measure: what `Worst.detail` is.
        worst: its rows.
    """

    notes: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    heading: str = "Tables"
    matrix: list[tuple[str, list[Share]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    worst_title: str = "Worst errors"
    worst_measure: str = "Error"
    worst: list[Worst] = field(default_factory=list)
