"""What a report says about arrays and pictures: samples next to the true ones, and the rows that are most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eir_seq.outputs.reporting.plots import COLOURS, Plot, figure_of, short
from eir_seq.outputs.reporting.sections import Cell, Predicted, Section, ShownRows, Table, Worst, WorstRow

MOST_STEPS = 5
"""Evaluations of which samples are drawn, evenly spaced."""
MOST_LINES = 3
"""Channels of a row of values that are drawn as lines."""
COLUMNS = 4
INCH = 1.25
"""Width of a picture or heat map."""
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

        def worst(position: int, row: WorstRow) -> Worst:
            true, predicted = given[f"{given.name}_true"][position], given[given.name][position]
            return Worst(row, true, predicted, f"{row.error:.3g}")

        found.worst = given.worst_rows(worst)
        found.worst_measure = "Share of wrong elements" if classes is not None else "Mean squared error"
    return found if found.plots or found.tables or found.worst else None


def _pairs(title: str, text: str, shown: ShownRows, rows: Sequence[int], is_picture: bool) -> Plot:
    """Rows side by side: the true array above, the predicted one below."""
    true, predicted = shown.arrays["true"], shown.arrays["predicted"]
    limits = _limits(true[list(rows)])

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, COLUMNS, squeeze=False)
        for column in range(COLUMNS):
            for line, (name, arrays) in enumerate((("true", true), ("predicted", predicted))):
                place: Axes = axes[line][column]
                if column >= len(rows):
                    place.set_axis_off()
                    continue
                row = rows[column]
                _draw(place, arrays[row], limits, is_picture)
                if line == 0:
                    place.set_title(short(shown.ids[row], 12), fontsize=8)
                else:
                    place.set_xlabel(f"error {shown.errors[row]:.3g}", fontsize=8)
                if column == 0:
                    place.set_ylabel(name, fontsize=9)

    return figure_of(title, text, draw, width=4.6, height=_height(true.shape[1:], 2))


def _history(samples: Mapping[str, ShownRows], is_picture: bool) -> Plot:
    """The same rows at several evaluations, and the true ones below."""
    last = list(samples.values())[-1]
    ids = last.ids[: last.even]
    limits = _limits(last.arrays["true"][: last.even])
    lines = [(f"step {int(label):,}", shown.arrays["predicted"]) for label, shown in samples.items()]
    lines.append(("true", last.arrays["true"]))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(lines), COLUMNS, squeeze=False)
        for line, (name, arrays) in enumerate(lines):
            for column in range(COLUMNS):
                place: Axes = axes[line][column]
                if column >= len(ids):
                    place.set_axis_off()
                    continue
                _draw(place, arrays[column], limits, is_picture)
                if line == 0:
                    place.set_title(short(ids[column], 12), fontsize=8)
                if column == 0:
                    place.set_ylabel(name, fontsize=8)

    text = f"Predicted at {', '.join(samples)} steps, and true: {', '.join(ids)}"
    return figure_of("During training", text, draw, height=_height(last.arrays["true"].shape[1:], len(lines)))


def _limits(arrays: Grid) -> tuple[float, float]:
    """The range of the true values, with a little room."""
    known = arrays[~np.isnan(arrays)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _height(shape: Sequence[int], lines: int) -> float:
    """Of a figure in inches."""
    _, height, width = shape
    return lines * (INCH * min(2.0, height / width) if height > 1 else 0.9) + 0.5


def _draw(axes: Axes, array: Grid, limits: tuple[float, float], is_picture: bool) -> None:
    """An array (channels, height, width) as a picture, as lines, or as a heat map of its channels' mean."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    channels, height, _ = array.shape
    if is_picture:
        pixels = array.clip(0, 1).transpose(1, 2, 0)
        axes.imshow(pixels[:, :, 0] if channels == 1 else pixels, "gray", vmin=0, vmax=1, interpolation="none")
    elif height == 1:
        for channel, values in enumerate(array[:MOST_LINES, 0]):
            axes.plot(values, color=COLOURS[channel], linewidth=0.8)
        axes.set_ylim(*limits)
    else:
        mean = np.nanmean(array, axis=0) if not np.isnan(array).all() else array[0]
        axes.imshow(mean, "viridis", vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="none")
