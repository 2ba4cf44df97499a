"""What a report says about written answers."""

from __future__ import annotations

from eir_seq.outputs.reporting.sections import Predicted, Section, Worst, WorstRow


def section(given: Predicted) -> Section | None:
    """How many rows were answered, and those with the largest loss per token, each with its true answer."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    written, rows = given[name], len(given.ids)
    found = Section()
    if missing := written.count(""):
        found.notes.append(f"{rows - missing} of {rows} rows have a written answer (generate_rows).")

    def worst(position: int, row: WorstRow) -> Worst:
        return Worst(row, given[f"{name}_true"][position], written[position] or "(none)", f"loss {row.error:.3g}")

    found.worst = given.worst_rows(worst)
    return found
