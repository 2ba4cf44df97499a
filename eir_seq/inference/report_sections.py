"""What the report shows, section by section, as plain values and plots for the template."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir_seq.inference.prediction_table import PredictedColumns, PredictionTable
from eir_seq.inference.report_plots import (
    Plot,
    Series,
    class_curves,
    learning_curves,
    length_histogram,
    predicted_against_true,
    reliability,
    residuals,
)
from eir_seq.inference.report_statistics import (
    ClassRow,
    calibration,
    class_rows,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.report_data import ReportData, WorstRow
from eir_seq.training.samples import Sample

MAX_MATRIX = 30
"""Classes up to which the confusion matrix is shown whole; beyond, only its largest entries off the diagonal."""
HEADLINES = {
    "entity_f1": ("entity_precision", "entity_recall", "accuracy"),
    "accuracy": ("f1", "f1_micro", "mcc", "auroc"),
    "rmse": ("mae", "r2", "spearman"),
    "bits_per_byte": ("perplexity", "loss"),
    "bleu": ("chrf", "rougeL", "exact_match", "perplexity"),
    "perplexity": ("loss",),
}
"""By the metric that stands large, those beside it; the first of them that an output has."""
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "f1_micro": "F1 (micro)",
    "entity_f1": "F1 of entities",
    "entity_precision": "Precision of entities",
    "entity_recall": "Recall of entities",
    "read": "Words read",
    "mcc": "MCC",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "loss": "Loss",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-L by lines",
    "exact_match": "Exact match",
    "generator_loss": "Loss of the generator",
    "detection_loss": "Loss of the detection",
    "precision": "Precision",
    "recall": "Recall",
}
SCALES = {
    "mae": "errors",
    "rmse": "errors",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "bleu": "BLEU and chrF",
    "chrf": "BLEU and chrF",
    "generator_loss": "losses of both models",
    "detection_loss": "losses of both models",
}
"""What metrics are plotted together as, where it is not the plot of shares and correlations."""

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by split, output and name."""


@dataclass(frozen=True)
class Card:
    """A headline value."""

    label: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    others: list[tuple[str, float]]


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix."""

    count: int
    share: float
    """Of the true class's rows."""


@dataclass(frozen=True)
class Worst:
    """A row of the table of worst errors."""

    id: str
    true: str
    predicted: str
    detail: str
    wrong: bool
    inputs: dict[str, str]


@dataclass
class SplitSection:
    """One output on one split."""

    split: str
    rows: int
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    confusion: list[tuple[str, list[Cell]]] = field(default_factory=list)
    confused: list[tuple[str, str, int, float]] = field(default_factory=list)
    """Most frequent confusions: true class, predicted class, rows, share of the true class."""
    worst: list[Worst] = field(default_factory=list)


@dataclass(frozen=True)
class OutputSection:
    """One output: its metrics by split, and its splits."""

    name: str
    metrics: list[tuple[str, list[float | None]]]
    """Title of the metric and its value by split."""
    splits: list[SplitSection]
    samples: list[tuple[int, list[Sample]]]
    """Texts that it wrote, by step, the last first."""


_OF_TOKENS = {"read", "perplexity", "detection_loss"}
"""Metrics by which outputs are known whose accuracy is not a share of rows, but of words or tokens."""


def cards(values: Values, tables: Mapping[str, PredictionTable], *, final: bool) -> list[Card]:
    """The headline values, by output and split; not `final` where they are the last ones of a run that goes on."""
    found = []
    outputs = dict.fromkeys(output for by_output in values.values() for output in by_output)
    for output in outputs:
        for split, by_output in values.items():
            metrics = by_output.get(output, {})
            main = next((name for name in HEADLINES if name in metrics), None)
            if main is None:
                continue
            rows = len(tables[split].ids) if split in tables and metrics.keys().isdisjoint(_OF_TOKENS) else 0
            found.append(
                Card(
                    label=" · ".join([split] + [output] * (len(outputs) > 1) + ["last evaluation"] * (not final)),
                    metric=TITLES[main],
                    value=metrics[main],
                    interval=wilson_interval(metrics[main], rows) if main == "accuracy" and rows else None,
                    others=[(TITLES[name], metrics[name]) for name in HEADLINES[main] if name in metrics],
                )
            )
    return found


def wilson_interval(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share of rows (Wilson 1927)."""
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def learning_plots(measurements: Sequence[Measurement], best_step: int | None) -> list[Plot]:
    """Losses, metrics and learning rate over the steps."""
    lines: dict[tuple[str, str, str], Series] = {}
    for m in measurements:
        if math.isfinite(m.value):
            measured = lines.setdefault((m.output, m.metric, m.split), Series(m.split, m.split, [], []))
            measured.steps.append(m.step)
            measured.values.append(m.value)
    outputs = dict.fromkeys(output for output, _, _ in lines if output)
    plots = []
    for output in outputs if len(outputs) < 2 else ("", *outputs):
        losses = [line for split in ("train", "validation") if (line := lines.get((output, "loss", split)))]
        if losses:
            title = f"Loss of {output}" if output and len(outputs) > 1 else "Loss"
            plots.append(learning_curves(title, losses, best_step=best_step, by_split=True))
        names = [name for name in TITLES if name != "loss" and (output, name, "validation") in lines]
        for kind in dict.fromkeys(SCALES.get(name, "metrics") for name in names):
            group = [name for name in names if SCALES.get(name, "metrics") == kind]
            shown = [lines[output, name, "validation"] for name in group]
            if all(len(line.steps) < 2 for line in shown):
                continue  # a single evaluation is no curve, and the tables have it
            labelled = [
                Series(TITLES[name], line.split, line.steps, line.values)
                for name, line in zip(group, shown, strict=True)
            ]
            title = f"Validation {kind}" + (f" of {output}" if len(outputs) > 1 else "")
            plots.append(learning_curves(title, labelled, best_step=best_step))
    rate = lines.get(("", "learning_rate", "train"))
    if rate:
        plots.append(learning_curves("Learning rate", [rate]))
    return plots


def output_sections(
    values: Values, tables: Mapping[str, PredictionTable], data: ReportData, samples: Sequence[Sample] = ()
) -> list[OutputSection]:
    """Every output with its metrics, plots, classes, worst rows and the texts that it wrote."""
    names = [output for by_output in values.values() for output in by_output]
    names += [output for table in tables.values() for output in table.outputs]
    sections = []
    for name in dict.fromkeys(names):
        known = {split: by_output.get(name, {}) for split, by_output in values.items()}
        shown = [metric for metric in TITLES if any(metric in metrics for metrics in known.values())]
        written: dict[int, list[Sample]] = {}
        for sample in samples:
            if sample.output == name:
                written.setdefault(sample.step, []).append(sample)
        splits = []
        for split, table in tables.items():
            columns = table.outputs.get(name)
            if columns is not None and columns.true is not None and table.ids:
                worst = data.worst.get(split, {}).get(name, [])
                splits.append(_split_section(split, name, table.ids, columns, columns.true, worst))
        sections.append(
            OutputSection(
                name=name,
                metrics=[(TITLES[metric], [metrics.get(metric) for metrics in known.values()]) for metric in shown],
                splits=splits,
                samples=list(reversed(written.items())),
            )
        )
    return sections


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


def _split_section(
    split: str, name: str, ids: list[str], columns: PredictedColumns, true: list[str], worst: Sequence[WorstRow]
) -> SplitSection:
    section = SplitSection(split, len(ids))
    if columns.is_classification:
        _add_classification(section, columns, true)
    elif columns.is_tags:
        _add_tags(section, columns, true)
    elif columns.scores is not None:
        if missing := columns.scores.count(""):
            section.notes.append(f"Texts were written for {len(ids) - missing} of {len(ids)} rows (generate_rows).")
    else:
        true_values, predicted = np.array(true, dtype=np.float64), np.array(columns.predicted, dtype=np.float64)
        section.plots += [predicted_against_true(true_values, predicted, name), residuals(true_values, predicted, name)]
    section.worst = list(_worst_rows(ids, columns, true, worst))
    return section


def _add_classification(section: SplitSection, columns: PredictedColumns, true: list[str]) -> None:
    names = list(columns.probabilities)
    index = {name: position for position, name in enumerate(names)}
    targets = np.array([index[value] for value in true])
    predicted = np.array([index[value] for value in columns.predicted])
    probabilities = np.stack(list(columns.probabilities.values()), axis=1)
    confusion = confusion_matrix(targets, predicted, len(names))
    rocs = [roc_curve(targets == position, probabilities[:, position]) for position in range(len(names))]
    recalls = [
        precision_recall_curve(targets == position, probabilities[:, position]) for position in range(len(names))
    ]
    section.classes = class_rows(names, confusion, rocs, recalls)
    defined_rocs = {name: curve for name, curve in zip(names, rocs, strict=True) if curve is not None}
    defined_recalls = {name: curve for name, curve in zip(names, recalls, strict=True) if curve is not None}
    if defined_rocs:
        section.plots += [
            class_curves(
                "ROC", defined_rocs, x="false positive rate", y="true positive rate", area="AUROC", diagonal=True
            ),
            class_curves(
                "Precision and recall",
                defined_recalls,
                x="recall",
                y="precision",
                area="average precision",
                diagonal=False,
            ),
        ]
    else:
        section.notes.append(f"All rows are of class {true[0]}: ROC and precision-recall curves are not defined.")
    calibrated = calibration(targets, probabilities)
    plot = reliability(calibrated)
    note = f"Expected calibration error {calibrated.error:.3f}"
    section.plots.append(Plot(plot.title, plot.svg, note))
    _add_confusion(section, names, confusion)


def _add_tags(section: SplitSection, columns: PredictedColumns, true: list[str]) -> None:
    lists = zip(map(json.loads, true), map(json.loads, columns.predicted), strict=True)
    words = [pair for tags, found in lists for pair in zip(tags, found, strict=True)]
    read = [pair for pair in words if pair[1]]
    if len(read) < len(words):
        section.notes.append(f"{len(words) - len(read)} of {len(words)} words were cut off and have no tag.")
    if not read:
        return
    names = sorted({tag for pair in read for tag in pair})
    index = {name: position for position, name in enumerate(names)}
    targets, predicted = (np.array([index[pair[side]] for pair in read]) for side in (0, 1))
    confusion = confusion_matrix(targets, predicted, len(names))
    section.classes = class_rows(names, confusion, [None] * len(names), [None] * len(names))
    _add_confusion(section, names, confusion)


def _add_confusion(section: SplitSection, names: list[str], confusion: NDArray[np.int64]) -> None:
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    if len(names) <= MAX_MATRIX:
        section.confusion = [
            (name, [Cell(int(count), float(share)) for count, share in zip(confusion[row], shares[row], strict=True)])
            for row, name in enumerate(names)
        ]
    off = confusion * (1 - np.eye(len(names), dtype=int))
    largest = np.argsort(-off, axis=None, kind="stable")[:10]
    if len(names) > 2:
        section.confused = [
            (names[row], names[column], int(off[row, column]), float(shares[row, column]))
            for row, column in zip(*np.unravel_index(largest, off.shape), strict=True)
            if off[row, column]
        ]


def _worst_rows(
    ids: list[str], columns: PredictedColumns, true: list[str], worst: Sequence[WorstRow]
) -> Iterator[Worst]:
    position = {row: index for index, row in enumerate(ids)}
    for row in worst:
        index = position.get(row.id)
        if index is None:
            continue
        expected, predicted = true[index], columns.predicted[index]
        if columns.is_classification:
            detail = f"{columns.probabilities[expected][index]:.3f}"
            yield Worst(row.id, expected, predicted, detail, expected != predicted, row.inputs)
        elif columns.is_tags:
            tags, found = json.loads(expected), json.loads(predicted)
            wrong = sum(one != other for one, other in zip(tags, found, strict=True))
            detail = f"{wrong} of {len(tags)} words"
            yield Worst(
                row.id, " ".join(tags), " ".join(tag or "(cut)" for tag in found), detail, wrong > 0, row.inputs
            )
        elif columns.scores is not None:
            written = predicted if columns.scores[index] else "(not written)"
            yield Worst(row.id, expected, written, f"loss {row.error:.3g}", False, row.inputs)
        else:
            error = f"{float(predicted) - float(expected):+.4g}"
            yield Worst(row.id, f"{float(expected):.4g}", f"{float(predicted):.4g}", error, False, row.inputs)
