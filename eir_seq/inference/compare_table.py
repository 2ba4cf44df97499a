"""Which columns of a comparison to show, and which of them fit a width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.inference.compare import Comparison, Row, Section, as_text, mean_and_deviation
from eir_seq.machine import cannot_write

LONGEST_CELL = 36
"""Longer values are cut where the width is limited."""
GAP = 2
"""Spaces between columns."""
_FIRST = ("model.model_type", "optimizer.type", "optimizer.lr", "data.batch_size")
"""Ends of config keys that are shown before others that differ."""


@dataclass(frozen=True)
class Column:
    """One column: its title, one cell per row, and its place from left to right."""

    title: str
    cells: tuple[str, ...]
    place: int

    @property
    def width(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, (self.title, *self.cells)))


@dataclass(frozen=True)
class Table:
    """The columns of a section that are shown, from left to right, and how many are not."""

    columns: tuple[Column, ...]
    left_out: int

    def rows(self) -> Iterator[list[str]]:
        """Cells, row by row."""
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            yield list(cells)


def heading(section: Section) -> str:
    """What a section compares: ``review.accuracy (highest first)``."""
    return f"{section.headline.metric} ({'lowest' if section.mode == 'min' else 'highest'} first)"


def fitted(comparison: Comparison, section: Section, width: int) -> Table:
    """The most telling columns that fit `width` characters; titles and cells are shortened if not all of them fit."""
    columns, partial = _columns(comparison, section)
    shown = _fit(columns, width)
    if len(shown) < len(columns):
        short = _short_titles([column.title for column in columns], comparison)
        shown = _fit([Column(short[each.title], tuple(map(_cut, each.cells)), each.place) for each in columns], width)
    return Table(shown, len(columns) - len(shown) + partial)


def write_markdown(comparison: Comparison, path: Path) -> None:
    """Write one table per section, with the config keys that tell its rows apart and the monitored metric.

    Raises:
        UserError: the file cannot be written.
    """
    lines: list[str] = []
    for section in comparison.sections:
        columns = sorted(_telling(comparison, section), key=lambda column: column.place)
        lines += [f"## {heading(section)}", ""]
        lines += [_line([column.title for column in columns]), _line(["---"] * len(columns))]
        lines += [_line(cells) for cells in Table(tuple(columns), 0).rows()]
        lines += [""]
    if comparison.problems:
        lines += ["Without a result:", "", *(f"- {name}: {status}" for name, status in comparison.problems), ""]
    lines += ["All settings and metrics: `compare.csv`"]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from None


def _columns(comparison: Comparison, section: Section) -> tuple[list[Column], int]:
    """All columns of a section that may be shown, the most telling first, and how many others there are.

    A key that only some rows have is not shown: it belongs to an architecture or a tokenizer that others name already.
    """
    columns = _telling(comparison, section)
    shown = {key for keys in _distinguishing(section.rows) for key in keys}
    keys = [key for key in _varying(section.rows) if key not in shown]
    complete = [key for key in keys if all(key in dict(row.settings) for row in section.rows)]
    titles = {column.title for column in columns}
    metrics = [_metric(section, name) for name in comparison.metrics if name not in titles]
    # Metrics of other outputs come after all of the monitored one.
    output = f".{section.headline.metric.rpartition('.')[0]}."
    metrics.sort(key=lambda column: output not in column.title)
    # The loss of the only output is the loss of the run, and the recall of two classes may be their balanced accuracy.
    by_cells = {column.cells: column for column in reversed([*columns, *metrics])}
    metrics = [column for column in metrics if any(column.cells) and by_cells[column.cells] is column]
    places = {key: len(shown) + place for place, key in enumerate(comparison.settings)}
    settings = [_setting(section, (key,), places[key]) for key in complete]
    return [*columns, *settings, *metrics], len(keys) - len(complete)


def labels(comparison: Comparison, section: Section) -> tuple[str, list[str]]:
    """What tells rows apart and of each row its values: ``lr``, ``lr=0.003`` or ``pool · lr``, ``avg · 0.003``."""
    keys = [key for keys in _distinguishing(section.rows) for key in keys]
    short = _short_titles(keys, comparison)
    settings = [dict(row.settings) for row in section.rows]
    if len(keys) == 1:
        return short[keys[0]], [f"{short[keys[0]]}={shown(each.get(keys[0]))}" for each in settings]
    values = [" · ".join(shown(each[key]) for key in keys if key in each) or "all runs" for each in settings]
    return " · ".join(short[key] for key in keys), values


def shown(value: Any) -> str:
    """A value of a config as a table shows it: of a number the first digits."""
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)


def varied_keys(section: Section) -> list[str]:
    """Keys that all rows have and that differ, without those whose values follow from those of one before."""
    settings = [dict(row.settings) for row in section.rows]
    found: dict[tuple[int, ...], str] = {}
    for key in _varying(section.rows):
        if all(key in each for each in settings):
            values = [as_text(each[key]) for each in settings]
            found.setdefault(tuple(values.index(value) for value in values), key)
    return list(found.values())


def short_titles(keys: Sequence[str], comparison: Comparison) -> dict[str, str]:
    """Config keys by the shortest end that no other key that differs shares."""
    return _short_titles(keys, comparison)


def _telling(comparison: Comparison, section: Section) -> list[Column]:
    """What tells the rows apart, how many runs there are and the monitored metric, the most telling first."""
    keys = list(_distinguishing(section.rows))
    if "name" in comparison.settings and ("name",) not in keys:
        keys.insert(0, ("name",))
    settings = [_setting(section, each, place) for place, each in enumerate(keys)]
    best = [section.best_run(row) for row in section.rows]
    columns = [
        *settings[:1],
        Column("runs", tuple(row.count for row in section.rows), 10_000),
        _metric(section, f"validation.{section.headline.metric}"),
        *settings[1:],
        _metric(section, f"test.{section.headline.metric}"),
        Column("best run", tuple(run.name if run else "" for run in best), 30_000),
    ]
    return [column for column in columns if any(column.cells)]


def _distinguishing(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Keys that tell all rows apart: the name, those of `_FIRST`, then whichever separates most of what is left.

    Keys with the same end make one column, e.g. the model types of all inputs.
    """
    varying = _varying(rows)
    chosen: list[tuple[str, ...]] = [("name",)] if "name" in varying else []
    for end in _FIRST:
        if keys := tuple(key for key in varying if f".{key}".endswith(f".{end}")):
            chosen.append(keys)
    flat = [key for keys in chosen for key in keys]
    left = [key for key in varying if key not in flat]
    while left and _separated(rows, flat) < len(rows):
        best = max(left, key=lambda key: _separated(rows, [*flat, key]))
        left.remove(best)
        flat.append(best)
        chosen.append((best,))
    yield from chosen


def _varying(rows: Sequence[Row]) -> list[str]:
    """Keys whose values differ between the rows, in the order of the config."""
    keys = dict.fromkeys(key for row in rows for key, _ in row.settings)
    return [key for key in keys if _separated(rows, [key]) > 1]


def _separated(rows: Sequence[Row], keys: Sequence[str]) -> int:
    """How many groups of rows the values of `keys` tell apart."""
    settings = [dict(row.settings) for row in rows]
    return len({tuple(as_text(each.get(key)) for key in keys) for each in settings})


def _setting(section: Section, keys: tuple[str, ...], place: int) -> Column:
    """The values of one key, or of several with the same end, which then is the title."""
    settings = [dict(row.settings) for row in section.rows]
    cells = tuple(" + ".join(shown(each[key]) for key in keys if key in each) for each in settings)
    return Column(keys[0] if len(keys) == 1 else keys[0].rpartition(".")[2], cells, place)


def _metric(section: Section, name: str) -> Column:
    # Of the metrics, those of the validation rows are to the left of those of the test rows.
    headline = name.partition(".")[2] == section.headline.metric
    place = 20_000 + 2 * (not headline) + (not name.startswith("validation."))
    return Column(name, tuple(mean_and_deviation(row.values(name)) for row in section.rows), place)


def _fit(columns: Sequence[Column], width: int) -> tuple[Column, ...]:
    """Those columns that fit, the first ones first, from left to right."""
    taken: list[Column] = []
    left = width
    for column in columns:
        needed = column.width + (GAP if taken else 0)
        if needed <= left:
            taken.append(column)
            left -= needed
    return tuple(sorted(taken, key=lambda column: column.place))


def _short_titles(titles: Sequence[str], comparison: Comparison) -> dict[str, str]:
    """Config keys by the shortest end that no other key shares, metrics without the name of their output."""
    short = {}
    for title in titles:
        parts = title.split(".")
        if title in comparison.settings:
            ends = (".".join(parts[start:]) for start in reversed(range(len(parts))))
            alone = (end for end in ends if sum(f".{key}".endswith(f".{end}") for key in comparison.settings) == 1)
            short[title] = next(alone, title)  # the end of another key may be the whole of this one
        elif title in comparison.metrics:
            short[title] = f"{parts[0]}.{parts[-1]}"
        else:
            short[title] = title
    ambiguous = {title for title, count in Counter(short.values()).items() if count > 1}
    return {title: title if end in ambiguous else end for title, end in short.items()}


def _cut(cell: str) -> str:
    return cell if len(cell) <= LONGEST_CELL else f"{cell[: LONGEST_CELL - 1]}…"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
