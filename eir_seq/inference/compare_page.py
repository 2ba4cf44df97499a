"""The page of a comparison: one HTML file without scripts, with a link to the report of each run."""

from __future__ import annotations

import datetime
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from eir_seq import __version__
from eir_seq.inference.compare import Comparison, Row, Run, Section, as_text
from eir_seq.inference.compare_importance import Point, importance
from eir_seq.inference.compare_plots import (
    MOST_AXES,
    MOST_ROWS,
    PARALLEL,
    Curve,
    Interval,
    curves_together,
    importance_plot,
    intervals,
    parallel_coordinates,
)
from eir_seq.inference.compare_statistics import PairedTest, Summary, paired_test
from eir_seq.inference.compare_table import labels, short_titles, shown, varied_keys
from eir_seq.inference.page import environment
from eir_seq.inference.report import number_text
from eir_seq.inference.run_list import evaluations
from eir_seq.outputs.reporting.plots import Plot
from eir_seq.remote import by_url
from eir_seq.training.folder import REPORT, write_text

PAGE = "compare.html"
SHOWN_ROWS, SHOWN_RUNS = 30, 60
"""Rows of a table that are open; the others unfold."""


@dataclass(frozen=True)
class SettingLine:
    """A line of the table of settings."""

    cells: list[str]
    count: str
    summary: Summary | None
    test: Summary | None
    best: RunLine | None


@dataclass(frozen=True)
class RunLine:
    """A line of the table of runs."""

    name: str
    link: str | None
    cells: list[str]
    value: float | None
    steps: int | None
    status: str


@dataclass(frozen=True)
class PageSection:
    """Runs with one headline."""

    title: str
    mode: str
    metric: str
    split: str
    sentences: list[str]
    columns: list[str]
    lines: list[SettingLine]
    tested: bool
    plots: list[Plot]
    notes: list[str]
    pair_columns: list[str]
    runs: list[RunLine]


def write_page(comparison: Comparison, folder: Path, path: Path) -> None:
    """Write the page of the runs below a folder.

    Raises:
        RunFailed: the disk is full.
        OSError: it cannot be written.
    """
    templates = environment()
    templates.filters |= {"number": number_text, "measured": _measured}
    finished = [len(row.finished) for section in comparison.sections for row in section.rows if row.finished]
    counts = [f"{sum(finished):,} finished runs", f"{len(finished):,} settings"]
    if comparison.pruned:
        counts.append(f"{len(comparison.pruned):,} pruned {'trial' if len(comparison.pruned) == 1 else 'trials'}")
    if comparison.problems:
        counts.append(f"{len(comparison.problems):,} without a result")
    page = templates.get_template("compare.html.j2").render(
        title=folder.resolve().name,
        subtitle=[*counts, datetime.datetime.now().strftime("%Y-%m-%d %H:%M")],
        sections=[_section(comparison, section, path.parent) for section in comparison.sections],
        problems=comparison.problems,
        wide=PARALLEL,
        open_rows=SHOWN_ROWS,
        open_runs=SHOWN_RUNS,
        version=__version__,
        folder=by_url(str(folder)),
    )
    write_text(path, page)


def _section(comparison: Comparison, section: Section, beside: Path) -> PageSection:
    split, _, name = section.ranking.partition(".")
    test = f"test.{name}"
    tested = split != "test" and any(row.values(test) for row in section.rows)
    form, names = labels(comparison, section)
    keys = list(dict.fromkeys(key for row in section.rows for key, _ in row.settings if _differs(key, section.rows)))
    titles = short_titles(keys, comparison)
    paired = [key for key in comparison.paired if _varies(key, section)]
    lines = []
    for row in section.rows:
        if not row.finished:
            continue
        settings, best = dict(row.settings), section.best_run(row)
        cells = [shown(settings[key]) if key in settings else "" for key in keys]
        line = None if best is None else _run_line(best, section, [], beside)
        lines.append(SettingLine(cells, row.count, row.summary(section.ranking), row.summary(test), line))
    runs = [run for row in section.rows for run in row.runs]
    plots, notes = _plots(comparison, section, names)
    sentences = _sentences(comparison, section, names)
    if len(section.rows) > 1 and " · " in form:
        sentences.append(f"Settings are labelled {form} below.")
    return PageSection(
        title=name,
        mode="lowest" if section.mode == "min" else "highest",
        metric=name,
        split=split,
        sentences=sentences,
        columns=[titles[key] for key in keys],
        lines=lines,
        tested=tested,
        plots=plots,
        notes=notes,
        pair_columns=[*(titles[key] for key in keys), *paired],
        runs=[_run_line(run, section, [*keys, *paired], beside) for run in runs],
    )


def _sentences(comparison: Comparison, section: Section, names: Sequence[str]) -> list[str]:
    """What the values say, in words."""
    measured = [row for row in section.rows if row.values(section.ranking)]
    if len(measured) < 2:
        return []
    first, second = names[:2]  # rows without values are last
    found = []
    pairs = paired_values(comparison, section, *measured[:2])
    test = best_two(comparison, section)
    if test is not None:
        better = "lower" if section.mode == "min" else "higher"
        found.append(
            f"{first} is {better} than {second} by {_measured(abs(test.difference))} on average "
            f"(95 % confidence interval {_measured(test.low)} to {_measured(test.high)}); paired t-test over "
            f"{test.pairs} pairs: p = {p_text(test.p)}."
        )
        if len(measured) > 2:
            found.append(
                f"The two were chosen from {len(measured)} settings by the same values, so that p is too small; "
                "repeat them with new seeds to be sure."
            )
    elif len(pairs) < 2:
        found.append(
            f"{first} and {second} cannot be tested: they share {'only one' if pairs else 'no'} seed and fold. "
            "Repeat them with several seeds: -m seed=1,2,3."
        )
    else:
        found.append(f"{first} and {second} differ by the same amount in every pair: no test is needed.")
    return found


def best_two(comparison: Comparison, section: Section) -> PairedTest | None:
    """The paired test of the two best rows; None if they share fewer than two pairs, or all differ equally."""
    measured = [row for row in section.rows if row.values(section.ranking)]
    if len(measured) < 2:
        return None
    pairs = paired_values(comparison, section, *measured[:2])
    overlap = max(row_overlap(row, section.ranking) for row in measured[:2])
    return paired_test([a for a, _ in pairs], [b for _, b in pairs], overlap=overlap)


def row_overlap(row: Row, metric: str) -> float:
    """See `eir_seq.inference.compare.overlap`."""
    from eir_seq.inference.compare import overlap

    return overlap(row.finished, metric)


def paired_values(comparison: Comparison, section: Section, first: Row, second: Row) -> list[tuple[float, float]]:
    """The values of two rows by what pairs them (seed, fold ...); the mean where a row has several."""

    def values(row: Row) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], list[float]] = {}
        for run in row.finished:
            if section.ranking in (run.metrics or {}):
                pair = tuple(as_text(run.config[key]) for key in comparison.paired)
                found.setdefault(pair, []).append((run.metrics or {})[section.ranking])
        return {pair: statistics.fmean(several) for pair, several in found.items()}

    mine, other = values(first), values(second)
    return [(mine[pair], other[pair]) for pair in mine if pair in other]


def p_text(p: float) -> str:
    """A p-value: ``0.034``, ``< 0.0001``."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _plots(comparison: Comparison, section: Section, names: Sequence[str]) -> tuple[list[Plot], list[str]]:
    measured = [
        (row, name, found)
        for row, name in zip(section.rows, names, strict=True)
        if (found := row.summary(section.ranking)) is not None
    ]
    plots, notes = [], []
    if len(measured) > 1 or (measured and measured[0][2].count > 1):
        lines = [Interval(name, row.values(section.ranking), found) for row, name, found in measured[:MOST_ROWS]]
        plots.append(intervals(section.headline.metric, lines))
        if len(measured) > MOST_ROWS:
            notes.append(f"The plot by setting has the best {MOST_ROWS} of {len(measured)}.")
    curves = [Curve(name, _curves(row, section)) for row, name, _ in measured]
    if any(len(run) > 1 for curve in curves for run in curve.runs):
        plots.append(curves_together(section.headline.metric, curves))
    keys = varied_keys(section)
    logarithmic = {key: log for sweep in comparison.sweeps for key, log in sweep.space.items()}
    searched = [key for key in keys if key in logarithmic]
    keys = searched if len(searched) > 1 else keys
    points = [Point(dict(row.settings), found.mean) for row, _, found in measured]
    if len(keys) < 2 or len(points) < 3:
        return plots, notes
    titles = short_titles(keys, comparison)
    shares = importance(points, keys, section.mode, [key for key, log in logarithmic.items() if log])
    if isinstance(shares, str):
        notes.append(shares)
    else:
        keys = [key for key in shares if key in keys]  # the most important first
    axes = {key: titles[key] for key in keys[:MOST_AXES]}
    plots.append(parallel_coordinates(points, axes, section.headline.metric, section.mode, logarithmic))
    if not isinstance(shares, str):
        plots.append(importance_plot(shares, titles))
    return plots, notes


def _curves(row: Row, section: Section) -> list[list[tuple[int, float]]]:
    """The monitored values of each run: of validation rows or, where there are none, of those that order the rows."""
    found = []
    for run in row.finished:
        if run.folder is not None:
            measured = evaluations(run.folder, section.headline)
            measured = measured or evaluations(run.folder, section.headline, section.ranking.partition(".")[0])
            if values := [(m.step, m.value) for m in measured]:
                found.append(values)
    return found


def _measured(value: float | None) -> str:
    """A metric, its deviation or an end of its interval: alike decimals in a column."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value == 0 or 1e-4 <= abs(value) < 1e4 else f"{value:.3g}"


def _run_line(run: Run, section: Section, keys: Sequence[str], beside: Path) -> RunLine:
    page = None if run.folder is None else run.folder / REPORT
    link = None if page is None or not page.is_file() else quote(os.path.relpath(page, beside))
    cells = [shown(run.config[key]) if key in run.config else "" for key in keys]
    return RunLine(run.name, link, cells, (run.metrics or {}).get(section.ranking), run.steps, run.status)


def _differs(key: str, rows: Sequence[Row]) -> bool:
    return len({as_text(dict(row.settings).get(key)) for row in rows}) > 1


def _varies(key: str, section: Section) -> bool:
    return len({as_text(run.config[key]) for row in section.rows for run in row.runs}) > 1
