"""What a report says about arrays and pictures: samples next to the true ones, and the rows that are most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from eir_seq.outputs.reporting.plots import COLOURS, Plot, plot, short
from eir_seq.outputs.reporting.sections import Cell, Predicted, Section, ShownRows, Table, Worst, WorstRow

MOST_STEPS = 5
"""Evaluations of which samples are drawn, evenly spaced."""
MOST_LINES = 3
"""Channels of a row of values that are drawn as lines."""
COLUMNS = 4
INCH = 1.0
"""Height of a picture or heat map that is as high as wide."""
BOX = 20
"""Height of the box of a curve, in units of the axes."""
GAP = 0.08
"""Between boxes, relative to their sides."""
COLOUR_MAP = "viridis"
Grid = NDArray[np.floating[Any]]


def section(given: Predicted) -> Section | None:
    """Samples at the end, during training (of validation rows), Dice of single classes, and the worst rows."""
    found = Section(heading="Classes")
    is_picture = given.described.get("type") == "image"
    if (shown := given.samples.get(given.split)) is not None:
        for title, rows in (
            ("Predicted and true", range(shown.even)),
            ("Worst rows", range(shown.even, len(shown.ids))),
        ):
            if not rows:
                continue
            text = f"{title}: {', '.join(shown.ids[row] for row in rows)}"
            found.plots.append(_pairs(title, text, shown, list(rows), is_picture))
    steps = [label for label in given.samples if label.isdecimal()]
    if given.split == "validation" and len(steps) > 1:
        places = np.unique(np.linspace(0, len(steps) - 1, min(MOST_STEPS, len(steps))).round().astype(int))
        found.plots.append(_history({steps[place]: given.samples[steps[place]] for place in places}, is_picture))
    classes = given.described.get("classes")
    if isinstance(classes, Mapping):
        lines: list[tuple[Cell, ...]] = [
            (str(name), int(count), given.metrics.get(f"dice({name})")) for name, count in classes.items()
        ]
        found.tables.append(Table("By class", ["Class", "Training elements", "Dice"], lines))
    if f"{given.name}_true" in given:
        drawn, generated = given[given.name], given.described.get("loss") == "diffusion"
        if missing := sum(cell == "" for cell in drawn):
            found.notes.append(f"Samples were drawn for {len(drawn) - missing} of {len(drawn)} rows (sample_rows).")

        def worst(position: int, row: WorstRow) -> Worst:
            true, predicted = given[f"{given.name}_true"][position], drawn[position] or "(not drawn)"
            return Worst(row, true, predicted, f"{row.error:.3g}")

        found.worst = given.worst_rows(worst)
        found.worst_measure = "Share of wrong elements" if classes is not None else "Mean squared error"
        if generated:
            found.worst_measure = "Loss"
    return found if found.plots or found.tables or found.worst else None


def _pairs(title: str, text: str, shown: ShownRows, rows: Sequence[int], is_picture: bool) -> Plot:
    """Rows side by side: the true array above, the predicted one below."""
    lines = [(name, [shown.arrays[name][row] for row in rows]) for name in ("true", "predicted")]
    labels = [f"{short(shown.ids[row], 12)}\n{shown.errors[row]:.3g}" for row in rows]
    return _mosaic(title, text, lines, labels, is_picture, "Below each row its id and error.")


def _history(samples: Mapping[str, ShownRows], is_picture: bool) -> Plot:
    """The same rows at several evaluations, and the true ones below."""
    last = list(samples.values())[-1]
    lines = [(f"step {int(label):,}", list(shown.arrays["predicted"][: last.even])) for label, shown in samples.items()]
    lines.append(("true", list(last.arrays["true"][: last.even])))
    ids = last.ids[: last.even]
    text = f"Predicted at {', '.join(samples)} steps, and true: {', '.join(ids)}"
    return _mosaic("During training", text, lines, [short(name, 12) for name in ids], is_picture)


def _mosaic(
    title: str,
    text: str,
    lines: Sequence[tuple[str, Sequence[Grid]]],
    labels: Sequence[str],
    is_picture: bool,
    note: str = "",
) -> Plot:
    """Arrays (channels, height, width) in lines and columns, in one pair of axes.

    Args:
        title: of the plot.
        text: of the plot.
        lines: name and arrays of each line; the first or the last one is ``true``, which decides the range.
        labels: of the columns.
        is_picture: whether values are colours from 0 to 1.
        note: below the plot.
    """
    limits = _limits(np.stack(next(arrays for name, arrays in lines if name == "true")))
    _, height, width = lines[0][1][0].shape
    box = (height if height > 1 else BOX, width)
    down, across = (side + max(1, round(GAP * side)) for side in box)

    def draw(axes: Axes) -> None:
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        centres = np.arange(COLUMNS) * across + (box[1] - 1) / 2
        axes.set_xticks(centres[: len(labels)], labels)
        axes.set_yticks(np.arange(len(lines)) * down + (box[0] - 1) / 2, [name for name, _ in lines])
        if height == 1:
            _draw_lines(axes, [arrays for _, arrays in lines], limits, (down, across))
            axes.set(xlim=(-1, COLUMNS * across), ylim=(len(lines) * down, -1))
            return
        canvas = np.zeros((len(lines) * down, COLUMNS * across, 4))
        for line, (_, arrays) in enumerate(lines):
            for column, array in enumerate(arrays):
                top, left = line * down, column * across
                canvas[top : top + height, left : left + width] = _colours(array, limits, is_picture)
        axes.imshow(canvas, aspect="auto", interpolation="none")
        if not is_picture:
            colours = ScalarMappable(Normalize(*limits), COLOUR_MAP)
            bar = axes.figure.colorbar(colours, ax=axes, fraction=0.03, pad=0.02)
            bar.ax.tick_params(labelsize=8, length=0)
            bar.outline.set_visible(False)

    inches = INCH * min(2.0, max(0.4, height / width)) if height > 1 else 0.7
    return plot(title, text, draw, height=len(lines) * inches + 0.6, note=note)


def _draw_lines(
    axes: Axes, lines: Sequence[Sequence[Grid]], limits: tuple[float, float], steps: tuple[int, int]
) -> None:
    """Arrays of one line of values as curves, each in its box."""
    low, high = limits
    for line, arrays in enumerate(lines):
        for column, array in enumerate(arrays):
            for channel, values in enumerate(array[:MOST_LINES, 0]):
                place = (1 - (values.clip(low, high) - low) / (high - low)) * BOX + line * steps[0]
                x = np.arange(len(values)) + column * steps[1]
                axes.plot(x, place, color=COLOURS[channel], linewidth=0.8)


def _colours(array: Grid, limits: tuple[float, float], is_picture: bool) -> Grid:
    """The colours of an array, (height, width, 4): a picture's own, or those of the mean of the channels."""
    found = np.ones((*array.shape[1:], 4))
    if is_picture:
        pixels = array.clip(0, 1).transpose(1, 2, 0)
        found[:, :, : max(3, pixels.shape[2])] = pixels
        return found
    known = ~np.isnan(array)
    mean = np.where(known, array, 0).sum(0) / known.sum(0).clip(1)
    colours: Grid = mpl.colormaps[COLOUR_MAP](((mean - limits[0]) / (limits[1] - limits[0])).clip(0, 1))
    colours[~known.any(0), 3] = 0
    return colours


def _limits(arrays: Grid) -> tuple[float, float]:
    """The range of the true values, with a little room."""
    known = arrays[~np.isnan(arrays)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room
