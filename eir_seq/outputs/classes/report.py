"""What reports say about classes: a confusion matrix, a table of classes, the most frequent confusions, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from eir_seq.outputs.classes.statistics import Calibration, ClassRow, Curve, binned, mean_curve, subsampled
from eir_seq.outputs.reporting.plots import COLOURS, INK, SERIES, Plot, figure_of, legend_below, plot, short
from eir_seq.outputs.reporting.sections import Predicted, Section, Share, Table, Worst, WorstRow

MAX_MATRIX = 30
"""Classes up to which the confusion matrix is shown whole; beyond, only its largest entries off the diagonal."""
MAX_CONFUSIONS = 10
PLURALS = {"class": "classes", "label": "labels", "level": "levels"}


def add_classes(
    section: Section, classes: Sequence[ClassRow], confusion: NDArray[np.int64], what: str = "class"
) -> None:
    """Add the tables of classes (or of `what` else they are) to a section; `confusion` has true ones in rows."""
    names = [row.name for row in classes]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    section.heading = PLURALS[what].capitalize()
    if len(names) <= MAX_MATRIX:
        section.matrix = [
            (name, [Share(int(count), float(share)) for count, share in zip(confusion[row], shares[row], strict=True)])
            for row, name in enumerate(names)
        ]
    columns = [what.capitalize(), "Rows", "Precision", "Recall", "F1", "AUROC", "AP"]
    section.tables.append(
        Table(
            f"By {what}",
            columns,
            [
                (row.name, row.support, row.precision, row.recall, row.f1, row.auroc, row.average_precision)
                for row in classes
            ],
        )
    )
    off = confusion * (1 - np.eye(len(names), dtype=int))
    largest = np.argsort(-off, axis=None, kind="stable")[:MAX_CONFUSIONS]
    confused = [
        (names[row], names[column], int(off[row, column]), f"{100 * shares[row, column]:.1f} %")
        for row, column in zip(*np.unravel_index(largest, off.shape), strict=True)
        if off[row, column]
    ]
    if len(names) > 2 and confused:
        section.tables.append(
            Table("Most frequent confusions", ["True", "Predicted", "Rows", "Share of true"], confused, texts=2)
        )


def add_curves(
    section: Section, names: list[str], rocs: list[Curve | None], recalls: list[Curve | None], what: str = "class"
) -> None:
    """Add ROC and precision-recall curves of classes (or of `what` else they are), of which some may be undefined."""
    section.plots += [
        class_curves(
            "ROC",
            _defined(names, rocs),
            x="false positive rate",
            y="true positive rate",
            area="AUROC",
            diagonal=True,
            what=what,
        ),
        class_curves(
            "Precision and recall",
            _defined(names, recalls),
            x="recall",
            y="precision",
            area="average precision",
            diagonal=False,
            what=what,
        ),
    ]


def add_least_certain(
    section: Section, given: Predicted, probabilities: NDArray[np.float64], index: Mapping[str, int]
) -> None:
    """Add the rows whose true class has the lowest probability.

    Args:
        section: in place.
        given: the predictions, with the columns NAME_true and NAME.
        probabilities: (rows, classes).
        index: position of each class.
    """
    true, guess = given[f"{given.name}_true"], given[given.name]

    def worst(position: int, row: WorstRow) -> Worst:
        expected = true[position]
        probability = probabilities[position, index[expected]]
        return Worst(row, expected, guess[position], f"{probability:.3f}", expected != guess[position])

    section.worst, section.worst_measure = given.worst_rows(worst), "P(true)"
    if section.worst and not section.worst[0].wrong:
        section.worst_title = "Least certain rows"


def _defined(names: list[str], curves: list[Curve | None]) -> dict[str, Curve]:
    """The curves by name, without those that are undefined."""
    return {name: curve for name, curve in zip(names, curves, strict=True) if curve is not None}


def class_curves(
    title: str, curves: dict[str, Curve], *, x: str, y: str, area: str, diagonal: bool, what: str = "class"
) -> Plot:
    """A ROC or precision-recall curve per class (or `what` else has one); with many classes their mean stands out."""
    shown = {name: subsampled(curve) for name, curve in curves.items()}
    mean = mean_curve(list(curves.values()))

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        many = len(shown) > SERIES - 1
        for name, curve in shown.items():
            label = None if many else f"{short(name, 18)} ({curve.area:.3f})"
            style: dict[str, Any] = {"color": COLOURS[0], "alpha": 0.35, "linewidth": 0.8} if many else {}
            axes.plot(curve.x, curve.y, label=label, **style)
        if len(shown) > 2:
            axes.plot(mean.x, mean.y, color=INK, linewidth=2, label=f"mean of {len(shown)} ({mean.area:.3f})")
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if len(shown) > 2:
            legend_below(axes, columns=2, title=f"{what} ({area})")
        else:
            axes.legend(loc="lower right" if diagonal else "lower left", title=f"{what} ({area})", title_fontsize=9)

    text = f"{title}: {area} {mean.area:.3f} on average over {len(curves)} {PLURALS[what]}"
    return plot(title, text, draw, height=4.2 if 2 < len(curves) < SERIES else 3.6)


def probability_calibration(true: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> Plot:
    """Share of cells with a label over its probability; both (cells,)."""
    value = binned(probabilities, true)
    return reliability(value, share="share that has the label", x="probability of the label", count="cells")


def reliability(
    value: Calibration,
    *,
    share: str = "share of right predictions",
    x: str = "probability of the predicted class",
    count: str = "rows",
) -> Plot:
    """Accuracy over confidence, with the rows per bin below."""
    bins = len(value.counts)
    filled = value.counts > 0

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        centres, width = (value.edges[:-1] + value.edges[1:]) / 2, 1 / bins
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        upper.bar(
            centres[filled],
            value.accuracy[filled],
            width=width * 0.92,
            color=COLOURS[0],
            alpha=0.55,
            label=share.partition(" ")[0] if x.endswith("label") else "accuracy",
        )
        upper.plot(
            value.confidence[filled], value.accuracy[filled], "o", color=COLOURS[1], markersize=4, label="mean of bin"
        )
        upper.set(ylabel=share, xlim=(0, 1), ylim=(0, 1.02))
        upper.legend(loc="upper left")
        lower.bar(centres, value.counts, width=width * 0.92, color=COLOURS[5])
        lower.set(xlabel=x, ylabel=count)
        lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))

    title, note = "Calibration", f"xpected calibration error {value.error:.3f}"
    return figure_of(title, f"{title}: e{note}", draw, height=3.6, note=f"E{note}")
