"""What a report says about written texts."""

from __future__ import annotations

from eir_seq.outputs.reporting.sections import Predicted, Section, Worst, WorstRow


def section(given: Predicted) -> Section | None:
    """How many texts were written, and the rows with the largest loss per token."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    scores, rows = given[f"{name}_score"], len(given.ids)
    found = Section()
    if missing := scores.count(""):
        found.notes.append(f"Texts were written for {rows - missing} of {rows} rows (generate_rows).")

    def worst(position: int, row: WorstRow) -> Worst:
        text = given[name][position] if scores[position] else "(not written)"
        return Worst(row, given[f"{name}_true"][position], text, f"loss {row.error:.3g}")

    found.worst = given.worst_rows(worst)
    return found
