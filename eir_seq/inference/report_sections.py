"""What the report shows, section by section, as plain values and plots for the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import OutputBase
from eir_seq.inference.prediction_table import PredictionTable
from eir_seq.inference.report_curves import Series, learning_curves, length_histogram
from eir_seq.outputs.reporting.plots import Plot
from eir_seq.outputs.reporting.sections import Predicted, Section, ShownRows
from eir_seq.registry import OUTPUTS, imported
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.report_data import ReportData
from eir_seq.training.samples import Sample

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by split, output and name."""
ALL_OUTPUTS = ""
"""What the sum of losses is measured of."""
AVERAGE_TITLE = "Average over outputs"


@dataclass(frozen=True)
class Kind:
    """The kind of an output: its name in configs, and its config class; None if it is not installed."""

    name: str
    config: type[OutputBase] | None

    @classmethod
    def of(cls, type_: str) -> Kind:
        """The kind that a config calls `type_`."""
        return cls(type_, OUTPUTS.get(type_))

    def metrics(self, measured: Sequence[str]) -> list[Metric]:
        """Those that were measured, in the order of the kind; single classes are left to its section."""
        known = self.config.metrics() if self.config is not None else {}
        others = [name for name in measured if name not in known and "(" not in name]
        found = [metric for name, metric in known.items() if name in measured]
        return found + [Metric(name, name.replace("_", " ").capitalize(), "max") for name in others]


UNKNOWN = Kind("", None)


@dataclass(frozen=True)
class Card:
    """A headline value."""

    label: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    others: list[tuple[str, float]]


@dataclass(frozen=True)
class SplitSection:
    """One output on one split."""

    split: str
    rows: int
    shown: Section


@dataclass(frozen=True)
class OutputSection:
    """One output: its metrics by split, and its splits."""

    name: str
    metrics: list[tuple[str, list[float | None]]]
    """Title of the metric and its value by split."""
    note: str
    splits: list[SplitSection]
    samples: list[tuple[int, list[Sample]]]
    """Texts that it wrote, by step, the last first."""


def cards(
    values: Values,
    kinds: Mapping[str, Kind],
    rows: Mapping[str, int],
    *,
    final: bool,
    labelled: Mapping[str, Mapping[str, Sequence[int]]] = MappingProxyType({}),
    average: Mapping[str, float] = MappingProxyType({}),
) -> list[Card]:
    """The headline values, by output and split.

    Args:
        values: metrics.
        kinds: by output.
        rows: number of rows that were predicted, by split.
        final: not the last ones of a run that continues.
        labelled: by split and output, the rows that were measured, where some have no target.
        average: by split, the average over outputs.
    """
    found = [Card(split, AVERAGE_TITLE, value, None, []) for split, value in average.items()]
    outputs = dict.fromkeys(output for by_output in values.values() for output in by_output)
    for output in outputs:
        for split, by_output in values.items():
            measured = by_output.get(output, {})
            metrics = {metric.name: metric for metric in kinds.get(output, UNKNOWN).metrics(list(measured))}
            names = headline(kinds.get(output, UNKNOWN), metrics)
            if not names:
                continue
            main, *others = (metrics[name] for name in names)
            value, count = measured[main.name], rows.get(split, 0)
            if output in (scored := labelled.get(split, {})):
                count = len(scored[output])
            found.append(
                Card(
                    label=" · ".join([split] + [output] * (len(outputs) > 1) + ["last evaluation"] * (not final)),
                    metric=main.title,
                    value=value,
                    interval=wilson_interval(value, count) if main.share_of_rows and count else None,
                    others=[(metric.title, measured[metric.name]) for metric in others],
                )
            )
    return found


def headline(kind: Kind, measured: Mapping[str, Metric]) -> list[str]:
    """The metric that is shown large and those next to it, of those that were measured."""
    lines = kind.config.HEADLINES if kind.config is not None else ()
    for line in lines:
        if line[0] in measured:
            return [name for name in line if name in measured]
    return [name for name in measured if name != "loss"][:4] or list(measured)


def wilson_interval(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share of rows (Wilson 1927)."""
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def learning_plots(measurements: Sequence[Measurement], kinds: Mapping[str, Kind], best_step: int | None) -> list[Plot]:
    """Losses, metrics and learning rate over the steps."""
    lines: dict[tuple[str, str, str], Series] = {}
    for m in measurements:
        if math.isfinite(m.value):
            measured = lines.setdefault((m.output, m.metric, m.split), Series(m.split, m.split, [], []))
            measured.steps.append(m.step)
            measured.values.append(m.value)
    outputs = dict.fromkeys(output for output, _, _ in lines if output)
    plots = []
    for output in outputs if len(outputs) < 2 else (ALL_OUTPUTS, *outputs):
        losses = [line for split in ("train", "validation") if (line := lines.get((output, "loss", split)))]
        if losses:
            title = f"Loss of {output}" if output and len(outputs) > 1 else "Loss"
            plots.append(learning_curves(title, losses, best_step=best_step, by_split=True))
        names = [metric for of, metric, split in lines if (of, split) == (output, "validation") and metric != "loss"]
        metrics = kinds.get(output, UNKNOWN).metrics(names)
        for group in dict.fromkeys(metric.group for metric in metrics):
            shown = [
                Series(metric.title, line.split, line.steps, line.values)
                for metric in metrics
                if metric.group == group
                for line in (lines[output, metric.name, "validation"],)
            ]
            if all(len(line.steps) < 2 for line in shown):
                continue  # a single evaluation is no curve, and the tables have it
            title = f"Validation {group}" + (f" of {output}" if len(outputs) > 1 else "")
            if output == ALL_OUTPUTS:
                title = AVERAGE_TITLE
            plots.append(learning_curves(title, shown, best_step=best_step))
    rate = lines.get((ALL_OUTPUTS, "learning_rate", "train"))
    if rate:
        plots.append(learning_curves("Learning rate", [rate]))
    return plots


def output_sections(
    values: Values,
    tables: Mapping[str, PredictionTable],
    kinds: Mapping[str, Kind],
    data: ReportData,
    samples: Sequence[Sample] = (),
    arrays: Mapping[str, Mapping[str, ShownRows]] = MappingProxyType({}),
) -> list[OutputSection]:
    """Every output with its metrics, what its kind says of each split, and the texts that it wrote.

    `arrays`: by output and evaluation what it predicts of some rows. While a run has no table of predictions yet, the
    section of the validation rows has these alone.
    """
    names = dict.fromkeys(output for by_output in values.values() for output in by_output)
    names |= dict.fromkeys(kinds if tables else ())
    sections = []
    for name in names:
        kind = kinds.get(name, UNKNOWN)
        known = {split: by_output.get(name, {}) for split, by_output in values.items()}
        shown = kind.metrics(list(dict.fromkeys(metric for metrics in known.values() for metric in metrics)))
        written: dict[int, list[Sample]] = {}
        for sample in samples:
            if sample.output == name:
                written.setdefault(sample.step, []).append(sample)
        drawn = arrays.get(name, {})
        read = tables or ({"validation": PredictionTable([], {})} if drawn else {})
        splits = [
            SplitSection(split, len(table.ids), section)
            for split, table in read.items()
            if (table.ids or not tables)
            and (section := split_section(kind, name, split, table, known.get(split, {}), data, drawn))
        ]
        sections.append(
            OutputSection(
                name=name,
                metrics=[(metric.title, [metrics.get(metric.name) for metrics in known.values()]) for metric in shown],
                note="" if kind.config is not None else _not_installed(kind),
                splits=splits,
                samples=list(reversed(written.items())),
            )
        )
    return sections


def split_section(
    kind: Kind,
    name: str,
    split: str,
    table: PredictionTable,
    metrics: Mapping[str, float],
    data: ReportData,
    samples: Mapping[str, ShownRows] = MappingProxyType({}),
) -> Section | None:
    """What the kind says of an output on a split."""
    if kind.config is None or kind.config.REPORT is None:
        return None
    worst = data.worst.get(split, {}).get(name, [])
    if (rows := data.labelled.get(split, {}).get(name)) is not None:
        table = table.select(rows)
    given = Predicted(name, split, table.ids, table.columns, data.outputs.get(name, {}), metrics, worst, samples)
    section: Section | None = imported(kind.config.REPORT)(given)
    return section


def _not_installed(kind: Kind) -> str:
    what = f"outputs of type {kind.name!r}" if kind.name else "its type"
    return f"Only the metrics are shown: this installation does not know {what}."


def length_plots(data: ReportData) -> list[Plot]:
    """A histogram of token counts per input, with the share of rows that are cut."""
    plots = []
    for name, splits in data.lengths.items():
        if all(summary.rows == 1 for summary in splits.values()):
            continue  # a single text has a length and no distribution of lengths
        plot = length_histogram(name, splits)
        cut = ", ".join(f"{split} {summary.truncated:.1%}" for split, summary in splits.items())
        limited = any(summary.max_length is not None for summary in splits.values())
        plots.append(Plot(plot.title, plot.svg, f"Rows longer than max_length: {cut}" if limited else ""))
    return plots
