"""What a report says about answers."""

from __future__ import annotations

import json

from eir_seq.outputs.reporting.sections import Predicted, Section, Table, Worst, WorstRow
from eir_seq.outputs.span.scores import exact_match, f1


def section(given: Predicted) -> Section | None:
    """Exact match and F1 of rows with and without an answer, and the rows whose answers are most wrong."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    known = [row for row, cell in enumerate(given[f"{name}_true"]) if cell]
    true = {row: json.loads(given[f"{name}_true"][row]) for row in known}
    groups = {
        "all": known,
        "with an answer": [row for row in known if true[row]],
        "without": [row for row in known if not true[row]],
    }
    cells = []
    for title, rows in groups.items():
        scores = [(exact_match(given[name][row], true[row]), f1(given[name][row], true[row])) for row in rows]
        means = [sum(column) / len(rows) for column in zip(*scores, strict=True)] if rows else [None, None]
        answered = sum(given[name][row] != "" for row in rows)
        cells.append((title, len(rows), answered, *means))
    found = Section(worst_measure="1 - F1")
    found.tables.append(Table("Answers", ["Rows", "Count", "Answered", "Exact match", "F1"], cells))

    def worst(position: int, row: WorstRow) -> Worst:
        wanted = " / ".join(dict.fromkeys(true[position])) or "(none)"
        return Worst(row, wanted, given[name][position] or "(none)", f"{row.error:.2f}", row.error > 0)

    found.worst = given.worst_rows(worst)
    return found
