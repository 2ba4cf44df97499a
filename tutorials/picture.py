"""Takes the picture of each tutorial out of the report of its run, where it was run: ``python picture.py``."""

from __future__ import annotations

import html
import re
from pathlib import Path

FIGURES = {
    "03_poker_hands/runs/poker": "Validation metrics",
    "04_handwritten_digits/runs/digits": "Loss",
    "05_file_fragments/runs/fragments": "Validation metrics",
    "06_survival/runs/survival": "Survival by risk group",
    "07_populations/runs/populations": "Precision and recall",
    "08_signals/runs/signals": "Predicted against true",
    "09_topics/runs/topics": "Precision and recall",
    "10_grades/runs/grades": "Mean expected rank",
    "11_questions/runs/questions": "Validation metrics",
    "12_missing_everything/runs/missing": "Predicted against true",
    "13_cross_validation/runs/folds/fold_0": "ROC",
    "14_intervals/runs/intervals": "Share of",
    "20_instructions/runs/instructions": "Validation metrics",
    "22_restored_pictures/runs/colours": "Predicted and true",
    "23_segments/runs/segments": "Predicted and true",
    "16_captions/runs/captions": "Loss",
    "17_sentences/runs/reports": "Validation metrics",
    "18_proteins/runs/proteins": "Loss",
    "19_search/runs/search": "Share of",
    "31_messages/runs/messages": "inputs.signal to fusion",
}
"""By run, how the title of the figure begins."""
HERE = Path(__file__).parent


def figure(report: str, title: str) -> str:
    """The figure as a file of its own, with the colours of the light page in place of their names."""
    drawn = re.search(rf'<svg [^>]*aria-label="{re.escape(html.escape(title))}.*?</svg>', report, re.DOTALL)
    assert drawn is not None, f"no figure begins with {title!r}"
    colours: dict[str, str] = {}
    for name, value in re.findall(r"(--[\w-]+): *([^;}]+)", report):
        colours.setdefault(name, value.strip().replace('"', "'"))
    svg = re.sub(r"var\((--[\w-]+)\)", lambda found: colours[found[1]], drawn[0]).replace(
        "currentColor", colours["--ink"]
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg ", f"<svg {names} ", 1) + "\n"


def main() -> None:
    for run, title in FIGURES.items():
        report = HERE / run / "report/index.html"
        if report.is_file():
            (HERE / run.split("/")[0] / "picture.svg").write_text(figure(report.read_text("utf-8"), title), "utf-8")


if __name__ == "__main__":
    main()
