"""What a report says about survival: curves by risk group, calibration, risk groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from eir_seq.outputs.reporting.plots import COLOURS, INK, Plot, legend_below, plot, short
from eir_seq.outputs.reporting.sections import Predicted, Section, Table, Worst, WorstRow
from eir_seq.outputs.survival.curves import Floats, Mask, Steps, incidence
from eir_seq.outputs.survival.output import shown

MOST_GROUPS, LEAST_ROWS = 4, 20
"""Risk groups, and rows of each."""
HORIZONS = 3
"""Times of which calibration is shown."""

COX_LOSS = "The loss of a Cox model grows with the number of rows that it compares: a batch in training, all rows here."


@dataclass(frozen=True)
class _Event:
    """What the table of predictions has of one event, and of the rows that have a time."""

    name: str
    time: Floats
    happened: Mask
    followed: Mask
    """Rows that had the event or a competing one."""
    risk: Floats
    """At the horizon."""
    risks: Mapping[float, Floats]
    """By time."""
    training: Steps

    def observed(self, rows: Any) -> Steps:
        return incidence(self.time[rows], self.happened[rows], self.followed[rows])


def section(given: Predicted) -> Section | None:
    """Predicted and observed curves of risk groups, calibration at horizons, and the rows with the worst risks."""
    described: Any = given.described
    events, horizon = list(described["events"]), described["horizon"]
    several = len(events) > 1
    suffix = f"({events[0]})" if several else ""
    if f"{given.name}_time{suffix}" not in given:
        return None
    kept = [row for row, time in enumerate(given[f"{given.name}_time{suffix}"]) if time and given[given.name][row]]
    if not kept:
        return None
    found = Section(worst_measure=f"Error of the risk until {shown(horizon)}")
    if described["model"] == "cox":
        found.notes.append(COX_LOSS)
    read = [_read(given, event, kept, described) for event in events]
    if described["competing"]:
        followed = np.logical_or.reduce([event.happened for event in read])
        read = [_Event(**{**vars(event), "followed": followed}) for event in read]
    for event in read:
        groups, of = _groups(event.risk), f" of {short(event.name)}" if several else ""
        found.plots += [_curves(event, groups, of, several), _calibration(event, of)]
        found.tables.append(_table(event, groups, horizon, of))
    places = {row: place for place, row in enumerate(kept)}

    def worst(position: int, row: WorstRow) -> Worst:
        place = places[position]
        happened = [e for e in read if e.happened[place]]
        true = [f"{e.name if several else 'event'} at {shown(e.time[place])}" for e in happened]
        risks = [f"{e.name}: {e.risk[place]:.2f}" if several else f"{e.risk[place]:.2f}" for e in read]
        true = true or [f"none until {shown(max(e.time[place] for e in read))}"]
        return Worst(row, "; ".join(true), "; ".join(risks), f"{row.error:.2f}")

    found.worst = given.worst_rows(worst)
    return found


def _read(given: Predicted, event: str, kept: Sequence[int], described: Any) -> _Event:
    name, several = given.name, len(described["events"]) > 1
    suffix = f"({event})" if several else ""

    def numbers(column: str) -> Floats:
        return np.array([given[column][row] for row in kept], dtype=np.float64)

    def risk(time: float) -> Floats:
        if several:
            return numbers(f"{name}_risk({event}, {shown(time)})")
        return 1 - numbers(f"{name}_survival({shown(time)})")

    happened = numbers(f"{name}_event{suffix}") > 0
    at_horizon = risk(described["horizon"]) if several else numbers(name)
    risks = {time: risk(time) for time in described["times"]}
    training = Steps(**described["training"][event])
    return _Event(event, numbers(f"{name}_time{suffix}"), happened, happened, at_horizon, risks, training)


def _groups(risk: Floats) -> list[np.ndarray[Any, Any]]:
    """Rows by risk, from the lowest to the highest, in groups of about the same size."""
    count = max(1, min(MOST_GROUPS, len(risk) // LEAST_ROWS))
    return np.array_split(risk.argsort(kind="stable"), count)


def _group_name(number: int, count: int) -> str:
    if count == 1:
        return "all rows"
    names = {0: "lowest risk", count - 1: "highest risk"}
    return names.get(number, f"group {number + 1}")


def _curves(event: _Event, groups: Sequence[np.ndarray[Any, Any]], of: str, several: bool) -> Plot:
    """Observed curves as lines, mean predictions as points."""
    times, last = np.array(list(event.risks)), float(event.time.max())

    def side(risk: Floats) -> Floats:
        return risk if several else 1 - risk

    def draw(axes: Axes) -> None:
        for number, rows in enumerate(groups):
            colour, steps = COLOURS[number], event.observed(rows)
            at = np.array([0.0, *steps.times, float(event.time[rows].max())])
            label = _group_name(number, len(groups))
            axes.step(at, side(steps(at)), where="post", color=colour, label=label)
            mean = np.array([float(event.risks[time][rows].mean()) for time in event.risks])
            axes.plot(times, side(mean), "o", color=colour, markersize=4)
        if not several:
            at = np.array([0.0, *event.training.times, last])
            at = at[at <= last]
            axes.step(
                at,
                event.training(at),
                where="post",
                color=INK,
                linewidth=0.8,
                linestyle=(0, (2, 2)),
                label="training rows",
            )
        axes.plot([], [], "o", color=INK, markersize=4, label="predicted")
        axes.set(
            xlabel="time", ylabel="share with the event" if several else "share without the event", ylim=(-0.02, 1.02)
        )
        legend_below(axes, 3)

    title = f"{'Cumulative incidence' if several else 'Survival'}{of} by risk group"
    text = f"{title}: observed ({'Aalen-Johansen' if several else 'Kaplan-Meier'}) and mean predicted curves"
    return plot(title, text, draw, height=3.8, note="lines: observed; points: mean prediction of the group")


def _calibration(event: _Event, of: str) -> Plot:
    """Observed over predicted risk of groups, at a few times."""
    times = list(event.risks)
    picked = sorted({round(place) for place in np.linspace(0, len(times) - 1, HORIZONS + 2)[1:-1]})

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        for colour, time in zip(COLOURS, (times[place] for place in picked), strict=False):
            groups = _groups(event.risks[time])
            predicted = [float(event.risks[time][rows].mean()) for rows in groups]
            observed = [float(event.observed(rows)([time])[0]) for rows in groups]
            axes.plot(predicted, observed, "o-", color=colour, markersize=4, label=f"until {shown(time)}")
        axes.set(xlabel="predicted risk", ylabel="observed risk", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        legend_below(axes, 4)

    title = f"Calibration{of}"
    return plot(title, f"{title}: observed over predicted risk of groups of rows", draw, height=3.8)


def _table(event: _Event, groups: Sequence[np.ndarray[Any, Any]], horizon: float, of: str) -> Table:
    rows = [
        (
            _group_name(number, len(groups)),
            len(group),
            int(event.happened[group].sum()),
            float(event.risk[group].mean()),
            float(event.observed(group)([horizon])[0]),
        )
        for number, group in enumerate(groups)
    ]
    columns = ["Group", "Rows", "Events", "Predicted risk", "Observed risk"]
    return Table(f"Risk groups{of}: risk until {shown(horizon)}", columns, rows)
