"""What a report says about regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from eir_seq.outputs.regression.metrics import GAUSSIAN_LEVELS, METRICS
from eir_seq.outputs.reporting.plots import COLOURS, INK, Plot, figure_of, plot
from eir_seq.outputs.reporting.sections import Cell, Predicted, Section, Table, Worst, WorstRow

Floats = NDArray[np.float64]

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Of the quantiles of a predicted Gaussian that are compared with the targets."""
MAX_COLUMNS = 6
MAX_INTERVALS = 300
"""Intervals of a scatter plot; of more rows, every n-th is drawn."""
MAX_POINTS = 1500
"""Points of a scatter plot; of more rows, every n-th is drawn."""


def section(given: Predicted) -> Section | None:
    """Predicted against true values, residuals, calibration of intervals, and the rows with the largest errors.

    Of several columns, those of the first `MAX_COLUMNS` are drawn.
    """
    name, described = given.name, given.described.get("columns")
    columns = list(described) if isinstance(described, Mapping) else [None]
    shown = [_Column.of(given, column) for column in columns if f"{name}_true{_brackets(column)}" in given]
    if not shown:
        return None
    found = Section(heading="Columns" if len(columns) > 1 else "Calibration")
    if len(shown) > MAX_COLUMNS:
        found.notes.append(f"Plots show the first {MAX_COLUMNS} of {len(shown)} columns.")
    for column in shown[:MAX_COLUMNS]:
        if not len(column.true):
            found.notes.append(f"No row has a value of {column.unit}.")
            continue
        found.plots += [
            predicted_against_true(column.true, column.predicted, column.unit, column.interval),
            residuals(column.true, column.predicted, column.unit),
        ]
        if column.quantiles:
            found.plots.append(quantile_calibration(column.true, column.quantiles, column.unit))
            found.tables.append(_quantile_table(column))
    if len(columns) > 1:
        found.tables.insert(0, _column_table(given, [str(column) for column in columns]))

    def worst(position: int, row: WorstRow) -> Worst:
        cells = [
            (
                column,
                given[f"{name}_true{_brackets(column)}"][position],
                float(given[name + _brackets(column)][position]),
            )
            for column in columns
        ]
        if len(cells) == 1:
            expected, guess = float(cells[0][1]), cells[0][2]
            return Worst(row, f"{expected:.4g}", f"{guess:.4g}", f"{guess - expected:+.4g}")
        known = [(column, float(true), guess) for column, true, guess in cells if true != ""]
        return Worst(
            row,
            ", ".join(f"{column} {true:.4g}" for column, true, _ in known),
            ", ".join(f"{column} {guess:.4g}" for column, _, guess in known),
            f"{row.error:.3g}",
        )

    found.worst = given.worst_rows(worst)
    if len(columns) > 1:
        found.worst_measure = "Mean error in standard deviations"
    return found


def _brackets(column: str | None) -> str:
    return "" if column is None else f"({column})"


@dataclass(frozen=True)
class _Column:
    """The true and predicted values of one column, of the rows that have it; its quantiles by level."""

    unit: str
    true: Floats
    predicted: Floats
    quantiles: dict[float, Floats]

    @classmethod
    def of(cls, given: Predicted, column: str | None) -> _Column:
        name, brackets = given.name, _brackets(column)
        true = given.numbers(f"{name}_true{brackets}")
        there = ~np.isnan(true)

        def numbers(label: str) -> Floats:
            values: Floats = given.numbers(f"{label}{brackets}")[there]
            return values

        levels, quantiles = given.described.get("quantiles"), {}
        if isinstance(levels, Sequence):
            quantiles = {float(level): numbers(f"{name}_q{level:g}") for level in levels}
        elif f"{name}_std{brackets}" in given:
            mean, deviation = numbers(name), numbers(f"{name}_std")
            quantiles = {level: mean + NormalDist().inv_cdf(level) * deviation for level in LEVELS}
        return cls(name if column is None else column, true[there], numbers(name), quantiles)

    @property
    def interval(self) -> tuple[Floats, Floats] | None:
        """The lowest and the highest quantile."""
        return (self.quantiles[min(self.quantiles)], self.quantiles[max(self.quantiles)]) if self.quantiles else None


def _quantile_table(column: _Column) -> Table:
    """How many targets lie below each quantile, and within the intervals around the median."""
    true, every = column.true, column.quantiles
    quantiles = every if set(every) != set(LEVELS) else {level: every[level] for level in GAUSSIAN_LEVELS}
    rows: list[tuple[Cell, ...]] = [
        (f"below quantile {level:g}", level, float((true <= values).mean()), None)
        for level, values in quantiles.items()
    ]
    levels = sorted(quantiles)
    for low, high in zip(levels, reversed(levels), strict=True):
        if low < high:
            inside = (quantiles[low] <= true) & (true <= quantiles[high])
            width = float((quantiles[high] - quantiles[low]).mean())
            rows.append((f"from {low:g} to {high:g}", high - low, float(inside.mean()), width))
    return Table(f"Coverage of {column.unit}", ["Targets", "Expected share", "Share", "Mean width"], rows)


def _column_table(given: Predicted, columns: Sequence[str]) -> Table:
    wanted = ("mae", "rmse", "r2", "spearman", "coverage", "calibration_error")
    metrics = [metric for metric in METRICS if metric.name in wanted and metric.name in given.metrics]
    rows = [(column, *(given.metrics.get(f"{metric.name}({column})") for metric in metrics)) for column in columns]
    return Table("By column", ["Column", *(metric.title for metric in metrics)], rows)


def quantile_calibration(true: Floats, quantiles: Mapping[float, Floats], unit: str) -> Plot:
    """Share of the targets below each predicted quantile, over its level."""
    levels = sorted(quantiles)
    shares = [float((true <= quantiles[level]).mean()) for level in levels]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="calibrated")
        axes.plot(levels, shares, "o-", color=COLOURS[2], markersize=4, label="predicted")
        axes.set(xlabel="level of the quantile", ylabel=f"share of {unit} below", xlim=(0, 1), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left")

    error = float(np.mean(np.abs(np.array(shares) - np.array(levels))))
    text = f"Share of {unit} below each predicted quantile; mean difference {error:.3f}"
    return plot("Calibration of quantiles", text, draw, height=3.6, note=f"Mean difference {error:.3f}")


def predicted_against_true(
    true: Floats, predicted: Floats, unit: str, interval: tuple[Floats, Floats] | None = None
) -> Plot:
    """Scatter of predicted over true values, with intervals as vertical lines."""
    text, note = f"Predicted against true {unit}, {len(true)} rows", ""
    every = max(1, -(-len(true) // (MAX_INTERVALS if interval else MAX_POINTS)))
    low_bound, high_bound = interval or (predicted, predicted)
    (true, predicted, low_bound, high_bound), unit = _within_reach((true, predicted, low_bound, high_bound), unit)

    def draw(axes: Axes) -> None:
        low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        if interval:
            lines = (true[::every], low_bound[::every], high_bound[::every])
            axes.vlines(*lines, color=COLOURS[0], alpha=0.25, linewidth=1, label="interval")
        axes.plot(true[::every], predicted[::every], "o", color=COLOURS[0], alpha=0.45, markersize=3, mew=0)
        axes.set(xlabel=f"true {unit}", ylabel=f"predicted {unit}")
        axes.legend(loc="upper left")

    if every > 1:
        note = f"every {every}th of {len(true)} rows"
    return plot("Predicted against true", text, draw, height=3.6, note=note)


def residuals(true: Floats, predicted: Floats, unit: str) -> Plot:
    """Residuals over predicted values, and their distribution next to it."""
    (true, predicted), unit = _within_reach((true, predicted), unit)
    every = max(1, -(-len(true) // MAX_POINTS))
    difference = predicted - true

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        left.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        left.plot(predicted[::every], difference[::every], "o", color=COLOURS[1], alpha=0.45, markersize=3, mew=0)
        left.set(xlabel=f"predicted {unit}", ylabel="predicted - true")
        bins, steps = min(40, max(5, len(true) // 10)), np.ptp(difference) / np.spacing(np.abs(difference).max())
        if steps >= 2:
            right.hist(difference, bins=int(min(bins, steps)), orientation="horizontal", color=COLOURS[1])
        else:  # all the same, but for rounding
            right.barh(difference[:1], [len(difference)], color=COLOURS[1])
        right.set(xlabel="rows")
        right.xaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))

    text = f"Residuals of {unit}: mean {difference.mean():.4g}, standard deviation {difference.std():.4g}"
    return figure_of("Residuals", text, draw, height=3.6)


def _within_reach(values: Sequence[Floats], unit: str) -> tuple[Sequence[Floats], str]:
    """Values whose axes can be drawn: those near the smallest numbers are multiplied by a power of ten."""
    largest = float(max(np.abs(found).max() for found in values[:2]))
    if not 0 < largest < 1e-100:
        return values, unit
    scale = float(f"1e{int(np.floor(np.log10(largest)))}")
    return [found / scale for found in values], f"{unit} / {scale:g}"
