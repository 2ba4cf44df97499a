from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir_seq.errors import UserError
from eir_seq.outputs.predictions import write_predictions


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_true_value_stands_before_the_prediction(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, ["1"], {"a": {"a_true": ["x"], "a": ["y"], "a_p(x)": [0.25]}, "b": {"b": [1.5]}})
    assert read(path) == [["id", "a_true", "a", "a_p(x)", "b"], ["1", "x", "y", "0.25", "1.5"]]


hostile = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


@settings(deadline=None)
@given(ids=st.lists(hostile | st.sampled_from(["../../x", 'a"b', "a,b", "x\r", "a\r\nb", "\n", ""]), min_size=1))
def test_any_id_comes_back_in_order(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("ids") / "predictions.csv"
    write_predictions(path, ids, {"a": {"a": ids}})
    assert [row[0] for row in read(path)[1:]] == ids


def test_floats_keep_single_precision(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(100, dtype=np.float32)
    write_predictions(tmp_path / "p.csv", list(map(str, range(100))), {"a": {"a": values.astype(float).tolist()}})
    assert [np.float32(row[1]) for row in read(tmp_path / "p.csv")[1:]] == values.tolist()


def test_outputs_whose_columns_clash_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a_true'"):
        write_predictions(tmp_path / "p.csv", ["1"], {"a": {"a_true": ["x"], "a": ["x"]}, "a_true": {"a_true": ["y"]}})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_predictions(tmp_path / "no" / "p.csv", ["1"], {"a": {"a": ["x"]}})


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, ["1"], {"a": {"a": ["x"]}})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(path, ["1", "2"], {"a": {"a": ["y"]}})
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_csv_safe_quotes_what_a_spreadsheet_would_run(tmp_path: Path) -> None:
    ids = ["=1+1", "+cmd", "-x", "@a", "\tb", "\rc", "a=1", "", "-1.5", "+2e3", "'=1"]
    columns = {"=f": ids, "score": [-0.5, float("-inf"), *map(float, range(9))], "count": range(-5, 6)}
    write_predictions(tmp_path / "p.csv", ids, {"f": columns}, csv_safe=True)
    safe = ["'=1+1", "'+cmd", "'-x", "'@a", "'\tb", "'\rc", "a=1", "", "-1.5", "+2e3", "'=1"]
    header, *rows = read(tmp_path / "p.csv")
    assert header == ["id", "'=f", "score", "count"]
    assert [row[0] for row in rows] == [row[1] for row in rows] == safe
    assert [float(row[2]) for row in rows] == columns["score"]
    assert [int(row[3]) for row in rows] == list(range(-5, 6))
    write_predictions(tmp_path / "p.csv", ids, {"f": {"f": ids}})
    assert [row[0] for row in read(tmp_path / "p.csv")[1:]] == ids


def test_digits_that_all_values_share_are_not_at_the_cost_of_others(tmp_path: Path) -> None:
    times = [1_700_000_000.25, 1_700_000_001.5, 1_700_000_002.0]
    write_predictions(tmp_path / "p.csv", ["a", "b", "c"], {"y": {"time": times, "share": [0.1, 0.25, 1 / 3]}})
    rows = (tmp_path / "p.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[1]) for row in rows] == times
    assert [row.split(",")[2] for row in rows] == ["0.1", "0.25", "0.333333333"]
