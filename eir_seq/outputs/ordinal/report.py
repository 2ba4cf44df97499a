"""What a report says about ordinal outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from eir_seq.outputs.classes.report import add_classes, add_least_certain, reliability
from eir_seq.outputs.classes.statistics import (
    calibration,
    class_rows,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)
from eir_seq.outputs.reporting.plots import COLOURS, INK, Plot, plot, short
from eir_seq.outputs.reporting.sections import Predicted, Section


def section(given: Predicted) -> Section | None:
    """Expected ranks by level, calibration, the confusion in order, a table of levels, and the least certain rows."""
    name, levels = given.name, given.described.get("levels")
    if f"{name}_true" not in given or not isinstance(levels, Mapping):
        return None
    names = list(levels)
    index = {level: position for position, level in enumerate(names)}
    true, guess = given[f"{name}_true"], given[name]
    targets, predicted = (np.array([index[level] for level in found]) for found in (true, guess))
    probabilities = np.stack([given.numbers(f"{name}_p({level})") for level in names], axis=1)
    ranks = given.numbers(f"{name}_rank")
    confusion = confusion_matrix(targets, predicted, len(names))
    scores = [(targets == position, probabilities[:, position]) for position in range(len(names))]
    found = Section(plots=[expected_ranks(targets, ranks, names), reliability(calibration(targets, probabilities))])
    rows = class_rows(
        names, confusion, [roc_curve(*pair) for pair in scores], [precision_recall_curve(*pair) for pair in scores]
    )
    add_classes(found, rows, confusion, what="level")
    add_least_certain(found, given, probabilities, index)
    return found


def expected_ranks(targets: NDArray[np.int64], ranks: NDArray[np.float64], names: Sequence[str]) -> Plot:
    """Box plots of the expected rank by true level."""
    there = [level for level in range(len(names)) if (targets == level).any()]

    def draw(axes: Axes) -> None:
        line = {"color": INK, "linewidth": 0.8}
        axes.plot([0.5, len(names) + 0.5], [0.5, len(names) + 0.5], **line, linestyle=(0, (2, 2)))  # type: ignore[arg-type]
        axes.boxplot(
            [ranks[targets == level] for level in there],
            positions=[level + 1 for level in there],
            widths=0.5,
            boxprops={"color": COLOURS[0]},
            medianprops={"color": COLOURS[1], "linewidth": 2},
            whiskerprops={"color": COLOURS[0]},
            capprops={"color": COLOURS[0]},
            flierprops={"marker": "o", "markersize": 3, "markeredgecolor": COLOURS[0], "alpha": 0.5},
            manage_ticks=False,
        )
        axes.set_xticks(range(1, len(names) + 1), [short(name, 12) for name in names])
        axes.set_yticks(range(1, len(names) + 1), [short(name, 12) for name in names])
        axes.set(xlabel="true level", ylabel="expected rank", xlim=(0.5, len(names) + 0.5))

    means = ", ".join(f"{names[level]} {ranks[targets == level].mean():.2f}" for level in there[:8])
    return plot("Expected ranks", f"Mean expected rank by true level: {means}", draw, height=3.6)
