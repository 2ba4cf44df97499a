"""Plots of a comparison: means with their intervals, learning curves together, parallel coordinates, importance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eir_seq.inference.compare_importance import Point
from eir_seq.inference.compare_statistics import Summary
from eir_seq.inference.compare_table import shown
from eir_seq.outputs.reporting.plots import COLOURS, INK, PAPER, SERIES, Plot, plot, short

MOST_ROWS = 24
"""Settings of a plot of intervals."""
MOST_CURVES = SERIES
"""Settings whose learning curves have a colour; those of others are faint."""
MOST_AXES = 8
PARALLEL = "Parallel coordinates"
"""Title of the widest plot."""
NARROWEST = 0.01
"""Share of a value that an axis covers at least."""
_BEST, _OTHERS = COLOURS[1], COLOURS[0]
_SPAN = 50
"""Positive numbers from one to that many times as much are drawn on a logarithmic scale."""
_APART = 0.06
"""How close two numbers at an axis may be, as a share of its length."""


@dataclass(frozen=True)
class Interval:
    """A line of `intervals`: a setting, its values, and what they say."""

    label: str
    values: Sequence[float]
    summary: Summary


@dataclass(frozen=True)
class Curve:
    """The values of a metric over steps, of each repetition of a setting."""

    label: str
    runs: Sequence[Sequence[tuple[int, float]]]

    def mean(self) -> tuple[list[int], list[float], list[float], list[float]]:
        """Steps, and the mean, lowest and highest value of the repetitions that have a value there."""
        by_step: dict[int, list[float]] = {}
        for run in self.runs:
            for step, value in run:
                by_step.setdefault(step, []).append(value)
        # Where some repetitions have stopped, the mean of the others would jump.
        most = max(map(len, by_step.values()), default=0)
        steps = sorted(step for step, values in by_step.items() if len(values) == most)
        values = [by_step[step] for step in steps]
        return steps, [sum(v) / len(v) for v in values], [min(v) for v in values], [max(v) for v in values]


def intervals(title: str, lines: Sequence[Interval]) -> Plot:
    """One line per setting, the first at the top: its values, their mean, and the confidence interval."""
    cut = [short(line.label, 34) for line in lines]

    def draw(axes: Axes) -> None:
        for place, line in enumerate(lines):
            colour = _BEST if place == 0 else _OTHERS
            found = line.summary
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            if len(line.values) > 1:
                axes.scatter(line.values, [place] * len(line.values), s=16, facecolors="none", edgecolors=colour)
            axes.scatter([found.mean], [place], s=30, color=colour, zorder=3)
        axes.set_yticks(range(len(lines)), cut)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        left, right = axes.get_xlim()
        least = NARROWEST * max(abs(left), abs(right))
        if right - left < least:  # results that differ by rounding look alike
            axes.set_xlim((left + right - least) / 2, (left + right + least) / 2)
        axes.set_xlabel(title)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))

    text = "; ".join(f"{line.label}: {line.summary.mean:.4g}" for line in lines)
    note = "dots: means; circles: single runs; bars: 95 % confidence intervals" if _repeated(lines) else ""
    return plot("By setting", f"{title} by setting: {text}", draw, width=7.6, height=0.9 + 0.28 * len(lines), note=note)


def _repeated(lines: Sequence[Interval]) -> bool:
    return any(len(line.values) > 1 for line in lines)


def curves_together(title: str, curves: Sequence[Curve]) -> Plot:
    """The mean over repetitions of each setting by step, with the range of the repetitions; the best come first."""
    drawn = [curve for curve in curves if any(curve.runs)]

    def draw(axes: Axes) -> None:
        for curve in drawn[MOST_CURVES:]:
            steps, mean, _, _ = curve.mean()
            axes.plot(steps, mean, color=INK, alpha=0.15, linewidth=0.8)
        for place, curve in reversed(list(enumerate(drawn[:MOST_CURVES]))):
            steps, mean, low, high = curve.mean()
            marker = "o" if len(steps) < 15 else ""
            colour = COLOURS[place]
            axes.plot(steps, mean, color=colour, label=short(curve.label, 40), marker=marker, markersize=3.5)
            if len(curve.runs) > 1:
                axes.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.set(xlabel="optimizer step", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        handles, names = axes.get_legend_handles_labels()
        axes.figure.legend(  # the best first
            handles[::-1], names[::-1], loc="outside lower center", ncols=_columns(names)
        )

    notes = ["lines: means over repetitions; areas: from the lowest to the highest"] * any(
        len(curve.runs) > 1 for curve in drawn
    )
    if len(drawn) > MOST_CURVES:
        notes.append(f"faint: the other {len(drawn) - MOST_CURVES}")
    height = 3.6 + 0.22 * math.ceil(min(len(drawn), MOST_CURVES) / _columns([c.label for c in drawn[:MOST_CURVES]]))
    ends = "; ".join(f"{c.label} ends at {c.mean()[1][-1]:.4g}" for c in drawn[:MOST_CURVES])
    text = f"{title} over optimizer steps: {ends}"
    return plot("Learning curves", text, draw, width=7.6, height=height, note="; ".join(notes))


def _columns(names: Sequence[str]) -> int:
    longest = max(map(len, names), default=0)
    return 4 if longest <= 16 else 3 if longest <= 24 else 2 if longest <= 38 else 1


# ---------------------------------------------------------------------------------------------- parallel coordinates


@dataclass(frozen=True)
class _Scale:
    """Where the values of a key are on its axis, from 0 to 1."""

    places: Mapping[Any, float]
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def of(cls, values: Sequence[Any], logarithmic: bool | None) -> _Scale:
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
        different = list(dict.fromkeys(map(_hashable, values)))
        if len(numbers) < len(values) or len(different) < 3:
            ordered = sorted(different, key=str) if len(numbers) < len(values) else sorted(different)
            places = {value: (i / (len(ordered) - 1) if len(ordered) > 1 else 0.5) for i, value in enumerate(ordered)}
            return cls(places, [(place, short(shown(value), 14)) for value, place in places.items()])
        low, high = min(numbers), max(numbers)
        spread = low > 0 and high / low >= _SPAN if logarithmic is None else logarithmic and low > 0

        def place(value: float) -> float:
            first, last, here = (math.log(low), math.log(high), math.log(value)) if spread else (low, high, value)
            return (here - first) / (last - first)

        if len(different) <= 5:
            marks = sorted(different)
        elif spread:
            marks = [low * (high / low) ** (i / 4) for i in range(5)]
        else:
            marks = [low + (high - low) * i / 4 for i in range(5)]
        ticks: list[tuple[float, str]] = []
        for mark in marks:
            if not ticks or place(mark) - ticks[-1][0] > _APART:
                ticks.append((place(mark), f"{mark:.3g}"))
        return cls({v: place(v) for v in different}, ticks)


def parallel_coordinates(
    points: Sequence[Point], keys: Mapping[str, str], metric: str, mode: str, logarithmic: Mapping[str, bool]
) -> Plot:
    """One line per setting through its value on each axis; the best tenth (at most five) stand out.

    Args:
        points: the settings, which have all keys.
        keys: the axes from left to right, each with its title.
        metric: the last axis.
        mode: ``min`` or ``max``, whichever is better.
        logarithmic: of keys where it is known, whether their scale is logarithmic.
    """
    order = sorted(points, key=lambda point: point.value, reverse=mode == "max")
    best = order[: max(1, min(5, len(order) // 10))]
    scales = [_Scale.of([point.settings[key] for point in points], logarithmic.get(key)) for key in keys]
    scales.append(_Scale.of([point.value for point in points], False))
    titles = [*keys.values(), metric]

    def draw(axes: Axes) -> None:
        for rank, point in reversed(list(enumerate(order))):
            values = [*(point.settings[key] for key in keys), point.value]
            places = [scale.places[_hashable(value)] for scale, value in zip(scales, values, strict=True)]
            top = rank < len(best)
            alpha = 1.0 if top else 0.65 - 0.5 * rank / len(order)
            colour, width = (_BEST, 1.8) if top else (_OTHERS, 1.0)
            axes.plot(range(len(places)), places, color=colour, alpha=alpha, linewidth=width)
        for place, scale in enumerate(scales):
            axes.axvline(place, color=INK, linewidth=0.8, alpha=0.6)
            last = place == len(scales) - 1
            for height, text in scale.ticks:
                axes.text(
                    place + (0.03 if last else -0.03), height, text, fontsize=8, va="center",
                    ha="left" if last else "right",
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
                )  # fmt: skip
        axes.set_xticks(range(len(titles)), [short(title, 22) for title in titles])
        axes.set_yticks([])
        axes.set_xlim(-0.45, len(titles) - 0.6)
        axes.set_ylim(-0.06, 1.06)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)

    many = "the best setting stands out" if len(best) == 1 else f"the best {len(best)} settings stand out"
    text = f"{len(points)} settings through {', '.join(titles)}"
    return plot(PARALLEL, text, draw, width=11, height=3.8, note=many)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else shown(value)


def importance_plot(shares: Mapping[str, float], titles: Mapping[str, str]) -> Plot:
    """The share of each key, the largest at the top."""
    items = list(shares.items())[:12]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(items)), [share for _, share in items], color=_OTHERS, height=0.6)
        axes.set_yticks(range(len(items)), [short(titles.get(key, key), 30) for key, _ in items])
        axes.set_ylim(len(items) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.grid(axis="y", visible=False)

    text = "; ".join(f"{key}: {share:.0%}" for key, share in items)
    note = "share in what makes the best tenth of the settings (PED-ANOVA)"
    return plot("Importance", f"Importance: {text}", draw, height=max(1.6, 0.9 + 0.3 * len(items)), note=note)
