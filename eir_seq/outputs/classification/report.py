"""What a report says about classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eir_seq.outputs.classes.report import add_classes
from eir_seq.outputs.classes.statistics import (
    Calibration,
    Curve,
    calibration,
    class_rows,
    confusion_matrix,
    mean_curve,
    precision_recall_curve,
    roc_curve,
    thinned,
)
from eir_seq.outputs.reporting.plots import COLOURS, INK, SERIES, Plot, figure_of, legend_below, plot, short
from eir_seq.outputs.reporting.sections import Predicted, Section, Worst, WorstRow


def section(given: Predicted) -> Section | None:
    """ROC and precision-recall curves, calibration, confusion, a table of classes, and the least certain rows."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    classes = given.described.get("classes")
    if not isinstance(classes, Mapping):
        return Section(notes=["The run did not come to note its classes."])
    names = list(classes)
    index = {label: position for position, label in enumerate(names)}
    true, guess = given[f"{name}_true"], given[name]
    targets, predicted = (np.array([index[label] for label in labels]) for labels in (true, guess))
    probabilities = np.array([given[f"{name}_p({label})"] for label in names], dtype=np.float64).T
    confusion = confusion_matrix(targets, predicted, len(names))
    rocs = [roc_curve(targets == position, probabilities[:, position]) for position in range(len(names))]
    recalls = [
        precision_recall_curve(targets == position, probabilities[:, position]) for position in range(len(names))
    ]
    found = Section()
    if any(rocs):
        found.plots += [
            class_curves(
                "ROC",
                _defined(names, rocs),
                x="false positive rate",
                y="true positive rate",
                area="AUROC",
                diagonal=True,
            ),
            class_curves(
                "Precision and recall",
                _defined(names, recalls),
                x="recall",
                y="precision",
                area="average precision",
                diagonal=False,
            ),
        ]
    else:
        found.notes.append(f"All rows are of class {true[0]}: ROC and precision-recall curves are not defined.")
    found.plots.append(reliability(calibration(targets, probabilities)))
    if thresholds := given.described.get("thresholds"):
        assert isinstance(thresholds, Mapping)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in list(thresholds.items())[:SERIES])
        more = f" and {len(names) - SERIES} more" if len(names) > SERIES else ""
        found.notes.append(
            "The class whose probability is largest as a multiple of its threshold is predicted. Thresholds, chosen on "
            f"the validation rows: {shown}{more}."
        )
    add_classes(found, class_rows(names, confusion, rocs, recalls), confusion)

    def worst(position: int, row: WorstRow) -> Worst:
        expected = true[position]
        probability = probabilities[position, index[expected]]
        return Worst(row, expected, guess[position], f"{probability:.3f}", expected != guess[position])

    found.worst, found.worst_measure = given.worst_rows(worst), "P(true)"
    if found.worst and not found.worst[0].wrong:
        found.worst_title = "Least certain rows"
    return found


def _defined(names: list[str], curves: list[Curve | None]) -> dict[str, Curve]:
    return {name: curve for name, curve in zip(names, curves, strict=True) if curve is not None}


def class_curves(title: str, curves: dict[str, Curve], *, x: str, y: str, area: str, diagonal: bool) -> Plot:
    """A ROC or precision-recall curve per class; with many classes their mean stands out."""
    shown = {name: thinned(curve) for name, curve in curves.items()}
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
            legend_below(axes, columns=2, title=f"class ({area})")
        else:
            axes.legend(loc="lower right" if diagonal else "lower left", title=f"class ({area})", title_fontsize=9)

    text = f"{title}: {area} {mean.area:.3f} on average over {len(curves)} classes"
    return plot(title, text, draw, height=4.2 if 2 < len(curves) < SERIES else 3.6)


def reliability(value: Calibration) -> Plot:
    """Accuracy over confidence, with the rows per bin below."""
    bins = len(value.counts)
    filled = value.counts > 0

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        centres, width = (value.edges[:-1] + value.edges[1:]) / 2, 1 / bins
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="perfect")
        upper.bar(
            centres[filled], value.accuracy[filled], width=width * 0.92, color=COLOURS[0], alpha=0.55, label="accuracy"
        )
        upper.plot(
            value.confidence[filled], value.accuracy[filled], "o", color=COLOURS[1], markersize=4, label="mean of bin"
        )
        upper.set(ylabel="share of right predictions", xlim=(0, 1), ylim=(0, 1.02))
        upper.legend(loc="upper left")
        lower.bar(centres, value.counts, width=width * 0.92, color=COLOURS[5])
        lower.set(xlabel="probability of the predicted class", ylabel="rows")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))

    title, note = "Calibration", f"xpected calibration error {value.error:.3f}"
    return figure_of(title, f"{title}: e{note}", draw, height=3.6, note=f"E{note}")
