"""Plots as inline SVG that follow the page: its fonts, and its colours in light and dark.

Matplotlib draws with stand-in colours, which become CSS variables of the page. Text stays text.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eir_seq.inference.report_statistics import Calibration, Curve, mean_curve, thinned
from eir_seq.training.report_data import LengthSummary

SERIES = 8
"""Colours of the page, ``--c1`` to ``--c8``: those of Okabe and Ito, apart for every kind of colour vision."""
MAX_POINTS = 1500
"""Points of a scatter plot; of more rows, every n-th is drawn."""

NOISY = 40
"""From so many points on, a training loss is drawn as its running mean, with the values themselves faint behind."""

_INK, _GRID = "#010203", "#010204"
_COLOURS = [f"#0203{number:02x}" for number in range(1, SERIES + 1)]
_VARIABLES = {_INK: "currentColor", _GRID: "var(--grid)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(_COLOURS, start=1)
}
_DASHES = {"train": (0, (4, 2)), "validation": "solid", "test": (0, (1, 1))}
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a class may be called $x$
    "svg.fonttype": "none",
    "svg.hashsalt": "eir_seq",  # the same ids in every process
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "axes.prop_cycle": cycler(color=_COLOURS),
}


@dataclass(frozen=True)
class Series:
    """One line of a learning curve."""

    label: str
    split: str
    steps: list[int]
    values: list[float]


@dataclass
class Plot:
    """A finished plot: what it is called and its SVG."""

    title: str
    svg: str = field(repr=False)
    note: str = ""


def learning_curves(
    title: str, series: Sequence[Series], *, best_step: int | None = None, by_split: bool = False
) -> Plot:
    """Values over optimizer steps.

    Args:
        title: of the plot.
        series: the lines.
        best_step: step of the best checkpoint, marked by a vertical line.
        by_split: one colour per split; otherwise one per line.
    """

    def draw(axes: Axes) -> None:
        splits = ["train", "validation", "test"]
        for index, line in enumerate(series):
            colour = _COLOURS[(splits.index(line.split) if by_split else index) % SERIES]
            marker = "o" if len(line.steps) < 15 else ""
            dashes = _DASHES[line.split] if by_split else "solid"
            values = line.values
            if by_split and line.split == "train" and len(values) > NOISY:
                axes.plot(line.steps, values, color=colour, alpha=0.3, linewidth=0.8)
                values = running_mean(values)
            axes.plot(
                line.steps, values, color=colour, label=line.label, linestyle=dashes, marker=marker, markersize=3.5
            )
        if best_step is not None:
            axes.axvline(best_step, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)), label="best checkpoint")
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if len(series) > 1 or best_step is not None:
            _legend_below(axes, columns=3)

    height = 2.9 + 0.3 * (len(series) > 2)
    ends = "; ".join(f"{line.label} ends at {line.values[-1]:.4g}" for line in series)
    return _plot(title, f"{title} over optimizer steps: {ends}", draw, height=height)


def running_mean(values: Sequence[float], share: float = 0.05) -> list[float]:
    """The mean of each value and its neighbours, 5 % of all values wide."""
    reach = max(1, round(len(values) * share / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: list[float] = ((sums[high] - sums[low]) / (high - low)).tolist()
    return means


def class_curves(title: str, curves: dict[str, Curve], *, x: str, y: str, area: str, diagonal: bool) -> Plot:
    """A ROC or precision-recall curve per class; with many classes their mean stands out."""
    shown = {name: thinned(curve) for name, curve in curves.items()}
    mean = mean_curve(list(curves.values()))

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (2, 2)))
        many = len(shown) > SERIES - 1
        for name, curve in shown.items():
            label = None if many else f"{_short(name, 18)} ({curve.area:.3f})"
            style: dict[str, Any] = {"color": _COLOURS[0], "alpha": 0.35, "linewidth": 0.8} if many else {}
            axes.plot(curve.x, curve.y, label=label, **style)
        if len(shown) > 2:
            axes.plot(mean.x, mean.y, color=_INK, linewidth=2, label=f"mean of {len(shown)} ({mean.area:.3f})")
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if len(shown) > 2:
            _legend_below(axes, columns=2, title=f"class ({area})")
        else:
            axes.legend(loc="lower right" if diagonal else "lower left", title=f"class ({area})", title_fontsize=9)

    text = f"{title}: {area} {mean.area:.3f} on average over {len(curves)} classes"
    return _plot(title, text, draw, height=4.2 if 2 < len(curves) < SERIES else 3.6)


def reliability(value: Calibration) -> Plot:
    """Accuracy over confidence, with the rows per bin below."""
    bins = len(value.counts)
    filled = value.counts > 0

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        centres, width = (value.edges[:-1] + value.edges[1:]) / 2, 1 / bins
        upper.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        upper.bar(
            centres[filled], value.accuracy[filled], width=width * 0.92, color=_COLOURS[0], alpha=0.55, label="accuracy"
        )
        upper.plot(
            value.confidence[filled], value.accuracy[filled], "o", color=_COLOURS[1], markersize=4, label="mean of bin"
        )
        upper.set(ylabel="share of right predictions", xlim=(0, 1), ylim=(0, 1.02))
        upper.legend(loc="upper left")
        lower.bar(centres, value.counts, width=width * 0.92, color=_COLOURS[5])
        lower.set(xlabel="probability of the predicted class", ylabel="rows")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))

    title = "Calibration"
    return _figure(title, f"{title}: expected calibration error {value.error:.3f}", draw, height=3.6)


def length_histogram(name: str, splits: dict[str, LengthSummary]) -> Plot:
    """Share of each split's rows by token count, with the model's limit."""

    def draw(axes: Axes) -> None:
        for index, (split, summary) in enumerate(splits.items()):
            shares = np.array(summary.counts) / summary.rows
            axes.stairs(shares, summary.edges, color=_COLOURS[index], label=split, fill=False, linewidth=1.6)
        limit = next(iter(splits.values())).max_length
        if limit is not None and limit <= 1.2 * max(summary.longest for summary in splits.values()):
            axes.axvline(limit, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)), label=f"max_length {limit}")
        axes.set(xlabel="tokens per row", ylabel="share of rows", xlim=(0, None))
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="upper right")

    medians = ", ".join(f"{split} {summary.median:.0f}" for split, summary in splits.items())
    return _plot(f"Lengths of {name}", f"Token counts of input {name}; median by split: {medians}", draw)


def predicted_against_true(true: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], unit: str) -> Plot:
    """Scatter of predicted over true values."""
    true, predicted, unit = _within_reach(true, predicted, unit)
    every = max(1, -(-len(true) // MAX_POINTS))

    def draw(axes: Axes) -> None:
        low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
        axes.plot([low, high], [low, high], color=_INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        axes.plot(true[::every], predicted[::every], "o", color=_COLOURS[0], alpha=0.45, markersize=3, mew=0)
        axes.set(xlabel=f"true {unit}", ylabel=f"predicted {unit}")
        axes.legend(loc="upper left")

    note = f"every {every}th of {len(true)} rows" if every > 1 else ""
    plot = _plot("Predicted against true", f"Predicted against true {unit}, {len(true)} rows", draw, height=3.6)
    return Plot(plot.title, plot.svg, note)


def residuals(true: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], unit: str) -> Plot:
    """Residuals over predicted values, and their distribution beside it."""
    true, predicted, unit = _within_reach(true, predicted, unit)
    every = max(1, -(-len(true) // MAX_POINTS))
    difference = predicted - true

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        left.axhline(0, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)))
        left.plot(predicted[::every], difference[::every], "o", color=_COLOURS[1], alpha=0.45, markersize=3, mew=0)
        left.set(xlabel=f"predicted {unit}", ylabel="predicted - true")
        bins, steps = min(40, max(5, len(true) // 10)), np.ptp(difference) / np.spacing(np.abs(difference).max())
        if steps >= 2:
            right.hist(difference, bins=int(min(bins, steps)), orientation="horizontal", color=_COLOURS[1])
        else:  # all the same, but for rounding
            right.barh(difference[:1], [len(difference)], color=_COLOURS[1])
        right.set(xlabel="rows")
        right.xaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))

    text = f"Residuals of {unit}: mean {difference.mean():.4g}, deviation {difference.std():.4g}"
    return _figure("Residuals", text, draw, height=3.6)


def _within_reach(
    true: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], unit: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], str]:
    """Values whose axes can be drawn: those near the smallest numbers are multiplied by a power of ten."""
    largest = float(max(np.abs(true).max(), np.abs(predicted).max()))
    if not 0 < largest < 1e-100:
        return true, predicted, unit
    scale = float(f"1e{int(np.floor(np.log10(largest)))}")
    return true / scale, predicted / scale, f"{unit} / {scale:g}"


def _legend_below(axes: Axes, columns: int, title: str | None = None) -> None:
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(loc="outside lower center", ncols=columns, title=title, title_fontsize=9)


def _plot(title: str, text: str, draw: Any, *, width: float = 4.6, height: float = 2.9) -> Plot:
    return _figure(title, text, lambda figure: draw(figure.subplots()), width=width, height=height)


def _figure(title: str, text: str, draw: Any, *, width: float = 4.6, height: float = 2.9) -> Plot:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Plot(title, _inline(buffer.getvalue(), text))


def _inline(svg: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(?<=<g) id="[^"]*"', "", svg)  # names of groups, which nothing refers to
    # All plots share the page, so what each refers to gets a name of its own.
    own = hashlib.sha256((text + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'( id="|"#|\(#)', rf"\g<1>p{own}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', opening)
    assert box is not None
    width = float(box[1].split()[2])
    opening = (
        f'<svg viewBox="{box[1]}" style="max-width:{width * 4 / 3:.0f}px" role="img" aria-label="{html.escape(text)}"'
    )
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, variable)
    rest = re.sub(r"font: ([^;\"]*?)px '[^;\"]*", r"font: \1px var(--sans)", rest)
    return f"{opening}><title>{html.escape(text)}</title>{rest}"


def _short(name: str, limit: int = 24) -> str:
    name = name if len(name) <= limit else f"{name[: limit - 1]}…"
    # A legend leaves labels out that begin with an underscore; a space of no width keeps them.
    return f"\u200b{name}" if name.startswith("_") else name
