from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.training.report_data import MAX_TEXT, WORST_ROWS, ReportData, length_summary, shortened
from tests.inference.run_folders import classification, regression


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_every_row_is_in_one_bin(lengths: list[int]) -> None:
    summary = length_summary(lengths, max_length=100)
    assert sum(summary.counts) == summary.rows == len(lengths)
    assert summary.edges[0] <= min(lengths)
    assert max(lengths) < summary.edges[-1]
    assert summary.truncated == pytest.approx(np.mean(np.array(lengths) > 100))
    assert summary.longest == max(lengths)


def test_worst_rows_come_first_and_read_back(tmp_path: Path) -> None:
    output = classification("kind", ["a", "b"])
    raw = torch.zeros(40, 2)
    raw[:, 1] = torch.arange(40)  # ever surer of the wrong class
    ids = [f"r{row}" for row in range(40)]
    report = ReportData()
    report.add_worst("test", output, raw, torch.zeros(40, dtype=torch.long), ids, {"text": ids})
    report.save(tmp_path)
    worst = ReportData.load(tmp_path).worst["test"]["kind"]
    assert [row.id for row in worst] == ids[: -WORST_ROWS - 1 : -1]
    assert worst[0].error == pytest.approx(math.log(1 + math.exp(39)), rel=1e-6)
    assert worst[0].inputs == {"text": "r39"}
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["data.json"]


def test_worst_rows_of_a_number_are_those_farthest_off() -> None:
    output = regression("stars")
    report = ReportData()
    raw, target = torch.tensor([[0.1], [-2.0], [1.0]]), torch.zeros(3)
    report.add_worst("validation", output, raw, target, ["a", "b", "c"], {})
    assert [row.id for row in report.worst["validation"]["stars"]] == ["b", "c", "a"]


def test_a_run_without_the_file_has_nothing_to_say(tmp_path: Path) -> None:
    assert ReportData.load(tmp_path) == ReportData()


def test_long_texts_lose_their_middle() -> None:
    text = "a" * MAX_TEXT + "b" * MAX_TEXT
    short = shortened(text)
    assert len(short) <= MAX_TEXT
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert shortened("short") == "short"
