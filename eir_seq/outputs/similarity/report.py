"""What a report says about a similarity: cosines, scores over cosines, ranks, nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from eir_seq.outputs.reporting.plots import COLOURS, INK, Plot, legend_below, plot
from eir_seq.outputs.reporting.sections import Cell, Predicted, Section, Table, Worst, WorstRow

Floats = NDArray[np.float64]

MAX_POINTS = 1500
"""Points of a scatter plot; of more rows, every n-th is drawn."""
NEIGHBOURS = 10
"""Rows of the table of nearest neighbours."""
BINS = 40

LOSS = "The loss compares the rows of a batch in training and blocks of 1,024 rows here, and grows with their number."


def section(given: Predicted) -> Section | None:
    """Distribution of the cosines, scores over cosines, ranks, nearest neighbours, and the worst pairs."""
    name, described = given.name, given.described
    kept = [row for row, cosine in enumerate(given[name]) if cosine != ""]
    if not kept:
        return None
    found = Section(heading="Neighbours", worst_title="Worst pairs")
    contrastive = described.get("loss") == "contrastive"
    if contrastive:
        found.notes.append(LOSS)
    cosine = _numbers(given[name], kept)
    score = _numbers(given[f"{name}_true"], kept) if f"{name}_true" in given else np.full(len(kept), np.nan)
    known = ~np.isnan(score)
    two = bool(known.any()) and set(np.unique(score[known])) <= {0.0, 1.0}
    groups = {"pairs": cosine}
    if two:
        groups = {"pairs that match": cosine[score == 1], "others": cosine[score == 0]}
    for column in given.columns:
        if column.startswith(f"{name}_cosine("):
            there = [row for row in kept if given[column][row] != ""]
            groups[column.removeprefix(f"{name}_cosine(").removesuffix(")")] = _numbers(given[column], there)
    found.plots.append(histogram(groups))
    if known.any() and not two:
        found.plots.append(scatter(score[known], cosine[known], str(described.get("column"))))
    ranked = f"{name}_rank" in given
    if contrastive and ranked:
        found.worst_measure = "Nearer candidates"
    if ranked:
        found.plots.append(recall_over_ranks(_numbers(given[f"{name}_rank"], kept)))
        found.tables.append(_neighbours(given, kept))

    def worst(position: int, row: WorstRow) -> Worst:
        error = str(int(row.error)) if contrastive and ranked else f"{row.error:.3g}"
        shown = f"cosine {float(given[name][position]):.3f}"
        true = given[f"{name}_true"][position] if f"{name}_true" in given else "a match"
        if not ranked:
            return Worst(row, true, shown, error)
        rank, nearest = given[f"{name}_rank"][position], given[f"{name}_nearest"][position]
        near = float(given[f"{name}_nearest_cosine"][position])
        return Worst(row, true, f"{shown}, rank {rank}; nearest {nearest} ({near:.3f})", error)

    found.worst = given.worst_rows(worst)
    return found


def _numbers(values: Sequence[str], rows: Sequence[int]) -> Floats:
    return np.array([float(values[row]) if values[row] != "" else np.nan for row in rows])


def _neighbours(given: Predicted, kept: Sequence[int]) -> Table:
    """The nearest of some rows, spread over all."""
    name = given.name
    content = next((column for column in given.columns if column.startswith(f"{name}_nearest(")), None)
    chosen = [kept[place] for place in np.linspace(0, len(kept) - 1, min(NEIGHBOURS, len(kept))).round().astype(int)]
    rows: list[list[Cell]] = []
    for row in chosen:
        nearest = given[f"{name}_nearest"][row] if content is None else given[content][row]
        cells = (given[f"{name}_nearest_cosine"][row], given[name][row], given[f"{name}_rank"][row])
        rows.append([given.ids[row], nearest, float(cells[0]), float(cells[1]), int(cells[2])])
    columns = ["Row", "Nearest", "Its cosine", "Cosine of the pair", "Rank"]
    return Table("Nearest neighbours of some rows", columns, rows, texts=2)


def histogram(groups: dict[str, Floats]) -> Plot:
    """Distributions of cosines, a line for each group."""
    low = min((float(values.min()) for values in groups.values() if len(values)), default=0.0)
    edges = np.linspace(min(low, 0.99), 1.0, BINS + 1)

    def draw(axes: Axes) -> None:
        for colour, (label, values) in zip(COLOURS, groups.items(), strict=False):
            counts, _ = np.histogram(values, edges)
            axes.stairs(counts / max(1, len(values)), edges, color=colour, label=label, fill=True, alpha=0.45)
        axes.set(xlabel="cosine", ylabel="share")
        if len(groups) > 1:
            legend_below(axes, len(groups))

    means = ", ".join(f"{label} {values.mean():.3f}" for label, values in groups.items() if len(values))
    return plot("Cosines", f"Distribution of the cosines; means: {means}", draw, height=3.3, note=f"means: {means}")


def scatter(score: Floats, cosine: Floats, column: str) -> Plot:
    """Scores over cosines."""
    every = max(1, -(-len(score) // MAX_POINTS))

    def draw(axes: Axes) -> None:
        axes.plot(cosine[::every], score[::every], "o", color=COLOURS[0], alpha=0.45, markersize=3, mew=0)
        axes.set(xlabel="cosine", ylabel=column)

    note = f"every {every}th of {len(score)} rows" if every > 1 else ""
    return plot("Scores over cosines", f"{column} over the cosine, {len(score)} rows", draw, height=3.6, note=note)


def recall_over_ranks(ranks: Floats) -> Plot:
    """The share of rows whose match is among the nearest k, over k."""
    ranks = np.sort(ranks[~np.isnan(ranks)])
    last = max(10, int(np.quantile(ranks, 0.95)) if len(ranks) else 10)
    places = np.arange(1, last + 1)
    shares = np.searchsorted(ranks, places, side="right") / max(1, len(ranks))

    def draw(axes: Axes) -> None:
        axes.step(places, shares, where="post", color=COLOURS[2])
        axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set(xlabel="k", ylabel="recall at k", ylim=(-0.02, 1.02))

    text = f"Share of {len(ranks)} rows whose match is among the nearest k; at 1 it is {shares[0]:.3f}"
    return plot("Recall", text, draw, height=3.3)
