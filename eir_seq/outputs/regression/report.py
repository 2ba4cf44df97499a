"""What a report says about regression."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from eir_seq.outputs.reporting.plots import COLOURS, INK, Plot, figure_of, plot
from eir_seq.outputs.reporting.sections import Predicted, Section, Worst, WorstRow

MAX_POINTS = 1500
"""Points of a scatter plot; of more rows, every n-th is drawn."""


def section(given: Predicted) -> Section | None:
    """Predicted against true values, residuals, and the rows with the largest errors."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    true, predicted = (np.array(given[column], dtype=np.float64) for column in (f"{name}_true", name))

    def worst(position: int, row: WorstRow) -> Worst:
        expected, guess = float(true[position]), float(predicted[position])
        return Worst(row, f"{expected:.4g}", f"{guess:.4g}", f"{guess - expected:+.4g}")

    return Section(
        plots=[predicted_against_true(true, predicted, name), residuals(true, predicted, name)],
        worst=given.worst_rows(worst),
    )


def predicted_against_true(true: NDArray[np.float64], predicted: NDArray[np.float64], unit: str) -> Plot:
    """Scatter of predicted over true values."""
    true, predicted, unit = _within_reach(true, predicted, unit)
    every = max(1, -(-len(true) // MAX_POINTS))

    def draw(axes: Axes) -> None:
        low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        axes.plot(true[::every], predicted[::every], "o", color=COLOURS[0], alpha=0.45, markersize=3, mew=0)
        axes.set(xlabel=f"true {unit}", ylabel=f"predicted {unit}")
        axes.legend(loc="upper left")

    note = f"every {every}th of {len(true)} rows" if every > 1 else ""
    text = f"Predicted against true {unit}, {len(true)} rows"
    return plot("Predicted against true", text, draw, height=3.6, note=note)


def residuals(true: NDArray[np.float64], predicted: NDArray[np.float64], unit: str) -> Plot:
    """Residuals over predicted values, and their distribution beside it."""
    true, predicted, unit = _within_reach(true, predicted, unit)
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


def _within_reach(
    true: NDArray[np.float64], predicted: NDArray[np.float64], unit: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Values whose axes can be drawn: those near the smallest numbers are multiplied by a power of ten."""
    largest = float(max(np.abs(true).max(), np.abs(predicted).max()))
    if not 0 < largest < 1e-100:
        return true, predicted, unit
    scale = float(f"1e{int(np.floor(np.log10(largest)))}")
    return true / scale, predicted / scale, f"{unit} / {scale:g}"
