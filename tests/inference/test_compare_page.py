"""The page of a comparison, searches, ``--by`` and ``--metric``."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from eir_seq.commands import main
from eir_seq.errors import UserError
from eir_seq.inference.compare import compare
from eir_seq.inference.compare_importance import Point, importance
from eir_seq.inference.compare_page import best_two
from eir_seq.inference.jobs import Job


def write_run(folder: Path, accuracy: float | None, *, report: bool = True, **config: Any) -> None:
    folder.mkdir(parents=True)
    content = {"name": "x", "outputs": {"sentiment": {"type": "classification"}}, "run": {"dir": str(folder)}} | config
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    rows = {"train": 40, "validation": 20}
    (folder / "manifest.json").write_text(json.dumps({"status": "stopped by signal 15", "data": {"rows": rows}}))
    if accuracy is None:
        return
    result = {
        "monitor": {"output": "sentiment", "metric": "accuracy", "mode": "max"},
        "steps": 20,
        "validation": {"sentiment": {"accuracy": accuracy, "auroc": 1 - accuracy, "loss": accuracy}},
        "test": {"sentiment": {"accuracy": accuracy - 0.01}},
    }
    (folder / "result.json").write_text(json.dumps(result))
    lines = [f"1,{step},validation,sentiment,accuracy,{accuracy * step / 20}" for step in (10, 20)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,split,output,metric,value", *lines, ""]))
    if report:
        (folder / "report").mkdir()
        (folder / "report" / "index.html").write_text("")


VALUES = {(0.1, 1): 0.6, (0.1, 2): 0.7, (0.1, 3): 0.66, (0.01, 1): 0.8, (0.01, 2): 0.83, (0.01, 3): 0.7}


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    for number, ((lr, seed), accuracy) in enumerate(VALUES.items()):
        write_run(tmp_path / str(number), accuracy, seed=seed, optimizer={"type": "adamw", "lr": lr})
    return tmp_path


class Page(HTMLParser):
    """Tags, links and text of a page; complains about tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.links += [given["href"] or ""] if tag == "a" else []
        self.sources += [str(value) for key, value in given.items() if key in ("src", "xlink:href")]
        if tag not in ("meta", "br", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_all_plots_and_links_and_loads_nothing(seeds: Path) -> None:
    assert main(["runs", "compare", str(seeds)]) == 0
    html = (seeds / "compare.html").read_text()
    page = Page(html)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(source.startswith("#") for source in page.sources)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html.split("</style>")[1])
    reports = [link for link in page.links if link.endswith("index.html")]
    assert {f"{number}/report/index.html" for number in range(6)} <= set(reports)
    assert all((seeds / link).is_file() for link in reports)
    low, high = stats.t.interval(0.95, 2, 2.33 / 3, stats.sem([0.8, 0.83, 0.7]))
    for words in ("By setting", "Learning curves", "paired t-test over 3 pairs", f"{low:.4f} to {high:.4f}"):
        assert words in page.text


def test_the_best_two_are_tested_over_the_same_seeds(seeds: Path) -> None:
    comparison = compare(seeds)
    found = best_two(comparison, comparison.sections[0])
    assert found is not None
    expected = stats.ttest_rel([0.8, 0.83, 0.7], [0.6, 0.7, 0.66])
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_seeds_that_one_setting_lacks_are_left_out(seeds: Path) -> None:
    write_run(seeds / "6", 0.9, seed=4, optimizer={"type": "adamw", "lr": 0.01})
    comparison = compare(seeds)
    found = best_two(comparison, comparison.sections[0])
    assert found is not None
    assert found.pairs == 3


def test_folds_widen_the_interval(tmp_path: Path) -> None:
    for fold in range(3):
        write_run(tmp_path / str(fold), 0.6 + fold / 10, seed=1, data={"folds": 3, "fold": fold})
    row = compare(tmp_path).sections[0].rows[0]
    found, plain = row.summary("validation.sentiment.accuracy"), stats.t.interval(0.95, 2, 0.7, 0.1 / 3**0.5)
    assert found is not None
    assert found.half == pytest.approx((plain[1] - 0.7) * ((1 / 3 + 20 / 40) / (1 / 3)) ** 0.5)


def test_by_pools_other_keys(seeds: Path) -> None:
    for number, ((lr, seed), accuracy) in enumerate(VALUES.items(), 6):
        write_run(seeds / str(number), accuracy / 2, seed=seed, optimizer={"type": "sgd", "lr": lr})
    comparison = compare(seeds, by=["optimizer.lr"])
    assert comparison.settings == ("optimizer.lr",)
    assert [(dict(row.settings), row.count) for row in comparison.sections[0].rows] == [
        ({"optimizer.lr": 0.01}, "6"),
        ({"optimizer.lr": 0.1}, "6"),
    ]
    found = best_two(comparison, comparison.sections[0])
    assert found is not None
    assert found.pairs == 6  # by seed and optimizer


def test_another_metric_is_compared_by(seeds: Path) -> None:
    section = compare(seeds, metric="auroc").sections[0]
    assert (section.ranking, section.mode) == ("validation.sentiment.auroc", "max")
    assert dict(section.rows[0].settings) == {"optimizer.lr": 0.1}
    assert compare(seeds, metric="sentiment.loss").sections[0].mode == "min"
    section = compare(seeds, metric="test.sentiment.accuracy").sections[0]
    assert section.ranking == "test.sentiment.accuracy"
    assert section.rows[0].values(section.ranking) == pytest.approx([0.79, 0.82, 0.69])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "acuracy"}, "--metric: no run has the metric 'acuracy' (sentiment.accuracy, sentiment.auroc"),
        ({"by": ["optimizer.lrr"]}, "--by: no run has the key 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
    ],
)
def test_names_that_no_run_has_are_refused(options: dict[str, Any], message: str, seeds: Path) -> None:
    with pytest.raises(UserError) as caught:
        compare(seeds, **options)
    assert message in str(caught.value)


def test_csv_on_the_terminal_is_that_of_the_file(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", str(seeds), "--csv"]) == 0
    printed = capsys.readouterr().out
    assert printed == (seeds / "compare.csv").read_text().replace("\r\n", "\n")
    row = next(iter(csv.DictReader(io.StringIO(printed))))
    low, high = stats.t.interval(0.95, 2, 2.33 / 3, stats.sem([0.8, 0.83, 0.7]))
    name = "validation.sentiment.accuracy"
    assert (float(row[f"{name}_low"]), float(row[f"{name}_high"])) == pytest.approx((low, high))


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Ten trials here, one whose folder is on another machine, one that was pruned, one that failed."""
    lines = ["number,state,value,run_dir,optimizer.lr,data.batch_size"]
    (tmp_path / "jobs").mkdir()
    for number in range(13):
        lr, size = 10 ** (-4 + number / 4), (8, 16)[number % 2]
        accuracy = 0.8 - abs(number - 6) / 20 + size / 1000
        state = {11: "pruned", 12: "failed"}.get(number, "complete")
        lines.append(f"{number},{state},{accuracy if state == 'complete' else ''},{number},{lr},{size}")
        if number == 10:
            continue
        settings = {"optimizer": {"lr": lr}, "data": {"batch_size": size}}
        write_run(tmp_path / str(number), accuracy if state == "complete" else None, seed=1, **settings)
        status: Any = {"complete": "done"}.get(state, state)
        job = Job(number, ("experiment=x", f"optimizer.lr={lr}"), status, message="" if status == "done" else "no luck")
        (tmp_path / "jobs" / f"{number}.json").write_text(json.dumps(asdict(job)))
    (tmp_path / "trials.csv").write_text("\n".join([*lines, ""]))
    sweep = {
        "directions": {"value": "maximize"},
        "objectives": ["sentiment.accuracy"],
        "space": {"optimizer.lr": {"log": True}, "data.batch_size": {"log": False}},
    }
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    return tmp_path


def test_a_search_is_compared_with_trials_of_other_machines(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", str(search)]) == 0
    printed = capsys.readouterr().out
    assert "pruned: 11" in printed
    assert "without a result: 12 (optimizer.lr=0.1): failed: no luck" in printed
    comparison = compare(search)
    elsewhere = next(run for row in comparison.sections[0].rows for run in row.runs if run.name == "10")
    assert (elsewhere.folder, elsewhere.config["optimizer.lr"]) == (None, pytest.approx(10**-1.5))
    assert len([row for row in comparison.sections[0].rows if row.finished]) == 11
    page = Page((search / "compare.html").read_text())
    assert "Parallel coordinates" in page.text
    assert "1 pruned trial ·" in page.text


def test_importance_names_what_matters() -> None:
    pytest.importorskip("optuna")
    points = [Point({"lr": n / 30, "size": n % 3}, -abs(n - 12)) for n in range(30)]
    shares = importance(points, ["lr", "size"], "max")
    assert isinstance(shares, dict)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["lr"] > 0.7


def test_few_settings_have_no_importance() -> None:
    assert "too few" in str(importance([Point({"a": 1, "b": 2}, 0.5)], ["a", "b"], "max"))


def test_a_damaged_table_of_trials_is_refused(search: Path) -> None:
    (search / "trials.csv").write_text("number,state\nx,complete\n")
    with pytest.raises(UserError, match=r"trials\.csv: is damaged"):
        compare(search)
