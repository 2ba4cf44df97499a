from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.inference.report import write_report
from eir_seq.inference.report_sections import Kind, cards, wilson_interval
from tests.inference.run_folders import classification, make_run, regression

SENTIMENT = ["negative", "positive"]


class Page(HTMLParser):
    """Headings, links, ids, unclosed tags and text of a page."""

    VOID = frozenset({"meta", "br", "link", "input", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: dict[str, int] = {}
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for key in ("href", "src", "xlink:href"):
            if values.get(key):
                self.links.append(str(values[key]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(run: Path) -> Page:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.open == []
    return page


RUNS: dict[str, Any] = {
    "two classes": lambda path: make_run(path, [classification("sentiment", SENTIMENT)]),
    "twenty classes": lambda path: make_run(path, [classification("topic", [f"t{i}" for i in range(20)])]),
    "forty classes": lambda path: make_run(path, [classification("topic", [f"t{i}" for i in range(40)])]),
    "regression": lambda path: make_run(path, [regression("stars")]),
    "several of both": lambda path: make_run(
        path, [classification("topic", ["a", "b", "c"]), regression("stars")], inputs=("review", "title")
    ),
    "no test split": lambda path: make_run(path, [classification("sentiment", SENTIMENT)], splits={"validation": 50}),
    "no validation": lambda path: make_run(path, [classification("sentiment", SENTIMENT)], splits={}),
    "one epoch": lambda path: make_run(path, [classification("sentiment", SENTIMENT)], epochs=1),
    "one class": lambda path: make_run(
        path, [classification("sentiment", SENTIMENT)], splits={"validation": 9}, only=1
    ),
    "one row": lambda path: make_run(path, [classification("s", SENTIMENT), regression("stars")], splits={"test": 1}),
    "failed": lambda path: make_run(path, [classification("sentiment", SENTIMENT)], status="no memory"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_page_is_whole_for_every_kind_of_run(kind: str, tmp_path: Path) -> None:
    page = page_of(RUNS[kind](tmp_path / "run"))
    assert len(page.ids) == len(set(page.ids))
    # Self-contained: links lead to places in the page only.
    assert page.links
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"\bnan\b", page.text)
    assert "a.csv lines 5-6: a quoted field holds rows" in page.text
    assert page.tags["svg"] == page.tags["title"] - 1  # each plot says in words what it shows


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = write_report(RUNS["two classes"](tmp_path / "run")).read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"url\((?!#)|@import|<script|<link", html)


def test_headlines_are_those_of_the_result(tmp_path: Path) -> None:
    run = RUNS["two classes"](tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    text = page_of(run).text
    for split in ("validation", "test"):
        assert f"{result[split]['sentiment']['accuracy']:.3f}" in text
        assert f"{result[split]['sentiment']['auroc']:.4f}" in text


def test_confusion_counts_are_those_of_the_predictions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [classification("sentiment", SENTIMENT)], splits={"validation": 80})
    rows = [line.split(",")[1:3] for line in (run / "predictions" / "validation.csv").read_text().splitlines()[1:]]
    html = write_report(run).read_text()
    for true in SENTIMENT:
        for predicted in SENTIMENT:
            assert f"true {true}, predicted {predicted}: {rows.count([true, predicted])} rows" in html


@pytest.mark.parametrize(
    ("classes", "panel", "matrix"),
    [(4, "panel", "matrix"), (6, "panel whole", "matrix"), (8, "panel whole", "matrix upright"),
     (20, "panel whole", "matrix upright many"), (30, "panel whole", "matrix upright many dense")],
)  # fmt: skip
def test_a_large_confusion_matrix_has_the_whole_width(tmp_path: Path, classes: int, panel: str, matrix: str) -> None:
    names = [f"a rather long name of a class, number {number}" for number in range(classes)]
    html = write_report(
        make_run(tmp_path / "run", [classification("topic", names)], splits={"validation": 80})
    ).read_text()
    assert re.search(rf'<div class="{panel}">\s*<p class="head">Confusion', html)
    assert f'<table class="{matrix}">' in html


def test_hostile_names_and_texts_are_shown_and_do_nothing(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = make_run(
        tmp_path / "run",
        [classification("topic", [evil, "$\\alpha$", "_hidden", '"><b>'])],
        texts=[evil + "</details>" * 3 + "x" * 300],
    )
    page = page_of(run)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert evil in page.text
    # In legends, too: no formulas, and names that begin with an underscore are not left out.
    legends = "".join(re.findall(r"<text[^>]*>([^<]*)</text>", (run / "report" / "index.html").read_text()))
    assert "$\\alpha$" in legends
    assert "_hidden" in legends


def test_a_failed_run_says_why_and_shows_what_there_is(tmp_path: Path) -> None:
    page = page_of(RUNS["failed"](tmp_path / "run"))
    assert "did not come to its end" in page.text
    assert "no memory" in page.text
    assert "Loss" in page.text
    assert "Worst errors" not in page.text


def test_a_run_with_nothing_but_its_config_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: early\n")
    page = page_of(tmp_path)
    assert "name: early" in page.text
    assert "running" in page.text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = RUNS["several of both"](tmp_path / "run")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
    assert sorted(path.name for path in (run / "report").iterdir()) == ["data.json", "index.html"]


@pytest.mark.parametrize("name", ["manifest.json", "result.json", "metrics.csv", "report/data.json"])
def test_damaged_files_are_one_line(name: str, tmp_path: Path) -> None:
    run = RUNS["no test split"](tmp_path / "run")
    (run / name).write_text('epoch,step\n{"rows": [')
    with pytest.raises(UserError) as caught:
        write_report(run)
    assert str(run) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)


@pytest.mark.parametrize(("share", "rows", "low", "high"), [(0.5, 100, 0.4038, 0.5962), (1.0, 10, 0.7225, 1.0)])
def test_wilson_interval(share: float, rows: int, low: float, high: float) -> None:
    assert wilson_interval(share, rows) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "shown"), [("classification", True), ("token_classification", False), ("masked_lm", False)]
)
def test_only_shares_of_rows_have_an_interval_of_rows(kind: str, shown: bool) -> None:
    values = {"validation": {"text": {"accuracy": 0.5}}}
    (card,) = cards(values, {"text": Kind.of(kind)}, {"validation": 600}, final=True)
    assert (card.interval is not None) is shown


def without_kinds(run: Path) -> None:
    """As if the run had failed before it noted what its outputs are."""
    data = json.loads((run / "report" / "data.json").read_text())
    (run / "report" / "data.json").write_text(json.dumps({**data, "outputs": {}}))


def test_the_kind_of_an_output_is_what_the_run_noted_or_its_config_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [regression("stars")], splits={"test": 20})
    before = write_report(run).read_text()
    assert "Predicted against true" in before
    without_kinds(run)
    assert "Predicted against true" in write_report(run).read_text()


def test_the_columns_of_a_kind_that_is_not_installed_are_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [regression("stars")], splits={"test": 20})
    for name in ("config.yaml", "report/data.json"):
        (run / name).write_text((run / name).read_text().replace("regression", "duration"))
    page = page_of(run)
    assert "does not know outputs of type 'duration'" in page.text
    assert "Rmse" in page.text
    assert "Residuals" not in page.text
