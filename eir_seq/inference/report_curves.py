"""Plots of a run as a whole: what was measured over its steps, and how long its rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eir_seq.outputs.reporting.plots import COLOURS, INK, SERIES, Plot, legend_below, plot
from eir_seq.training.report_data import LengthSummary

NOISY = 40
"""From that many points on, a training loss is drawn as its running mean over the faint values."""

_DASHES = {"train": (0, (4, 2)), "validation": "solid", "test": (0, (1, 1))}


@dataclass(frozen=True)
class Series:
    """One line of a learning curve."""

    label: str
    split: str
    steps: list[int]
    values: list[float]


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
            colour = COLOURS[(splits.index(line.split) if by_split else index) % SERIES]
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
            axes.axvline(best_step, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="best checkpoint")
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if len(series) > 1 or best_step is not None:
            legend_below(axes, columns=3)

    height = 2.9 + 0.3 * (len(series) > 2)
    ends = "; ".join(f"{line.label} ends at {line.values[-1]:.4g}" for line in series)
    return plot(title, f"{title} over optimizer steps: {ends}", draw, height=height)


def running_mean(values: Sequence[float], share: float = 0.05) -> list[float]:
    """The mean of each value and its neighbours, 5 % of all values wide."""
    reach = max(1, round(len(values) * share / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: list[float] = ((sums[high] - sums[low]) / (high - low)).tolist()
    return means


def length_histogram(name: str, splits: dict[str, LengthSummary]) -> Plot:
    """Share of each split's rows by token count, with the model's limit."""

    def draw(axes: Axes) -> None:
        for index, (split, summary) in enumerate(splits.items()):
            shares = np.array(summary.counts) / summary.rows
            axes.stairs(shares, summary.edges, color=COLOURS[index], label=split, fill=False, linewidth=1.6)
        limit = next(iter(splits.values())).max_length
        if limit is not None and limit <= 1.2 * max(summary.longest for summary in splits.values()):
            axes.axvline(limit, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label=f"max_length {limit}")
        axes.set(xlabel="tokens per row", ylabel="share of rows", xlim=(0, None))
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="upper right")

    medians = ", ".join(f"{split} {summary.median:.0f}" for split, summary in splits.items())
    return plot(f"Lengths of {name}", f"Token counts of input {name}; median by split: {medians}", draw)
