"""Predictions that are files: they are written with the table, replaced with it, and never in part."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.outputs.files import FileCell, value_of
from eir_seq.outputs.predictions import LeftOut, write_predictions


def cells(*texts: str) -> list[Any]:
    return [FileCell(lambda text=text: text, ".txt", str.encode) if text else "" for text in texts]


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cells_name_files_beside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "new.predicted.csv"
    write_predictions(path, ["a", "b", "c"], {"x": {"x": cells("one", "", "three")}, "y": {"y": [1, 2, 3]}})
    assert read(path)[1:] == [
        ["a", "new.predicted.files/x/a.txt", "1"],
        ["b", "", "2"],
        ["c", "new.predicted.files/x/c.txt", "3"],
    ]
    files = {"new.predicted.files/x/a.txt": b"one", "new.predicted.files/x/c.txt": b"three"}
    assert tree(tmp_path) == {"new.predicted.csv": path.read_bytes(), **files}


def test_new_files_replace_all_former_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, ["a", "b"], {"x": {"x": cells("one", "two")}, "z": {"z": cells("1", "2")}})
    write_predictions(path, ["a"], {"x": {"x": cells("other")}})
    assert tree(tmp_path).keys() == {"p.csv", "p.files/x/a.txt"}
    assert (tmp_path / "p.files/x/a.txt").read_text() == "other"


@pytest.mark.parametrize(
    "ids", [["../up", "b"], ["a", "A"], [".hidden", "b"], ["", "b"], ["x" * 101, "b"], ["a b", "b"]]
)
def test_ids_that_are_no_names_of_files_are_numbered(ids: list[str], tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", ids, {"x": {"x": cells("one", "two")}})
    assert tree(tmp_path).keys() == {"p.csv", "p.files/x/1.txt", "p.files/x/2.txt"}


def test_rows_that_were_left_out_have_no_file(tmp_path: Path) -> None:
    left_out = [LeftOut("bad", 0, "is missing")]
    write_predictions(tmp_path / "p.csv", ["a"], {"x": {"x": cells("one")}}, left_out)
    assert read(tmp_path / "p.csv")[1:] == [["bad", "", "is missing"], ["a", "p.files/x/a.txt", ""]]
    assert tree(tmp_path).keys() == {"p.csv", "p.files/x/a.txt"}


def fails(text: str) -> Any:
    def encode(value: str) -> bytes:
        raise OSError(28, "No space left on device")

    return FileCell(lambda: text, ".txt", encode)


@pytest.mark.parametrize("failure", ["a file", "the table", "its place"])
def test_a_failure_leaves_the_former_table_and_files(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, ["a"], {"x": {"x": cells("one")}})
    before = tree(tmp_path)
    new: dict[str, dict[str, Any]] = {"x": {"x": cells("new")}}
    if failure == "a file":
        new = {"x": {"x": [fails("new")]}}
    elif failure == "the table":
        new = {"x": {"x": cells("new")}, "y": {"y": ["1", "2"]}}
    else:

        def replace(*_: Any) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Exception, match=r"cannot be written|shorter|longer|disk is full|No space|output error"):
        write_predictions(path, ["a"], new)
    monkeypatch.undo()
    assert tree(tmp_path) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["p.csv", "p.files"]


def test_nothing_is_left_of_a_first_table_that_fails(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'x'"):
        write_predictions(tmp_path / "p.csv", ["a"], {"x": {"x": cells("1")}, "y": {"x": cells("2")}})
    assert list(tmp_path.iterdir()) == []


def test_python_code_gets_the_value() -> None:
    assert [value_of(cell) for cell in (*cells("one"), 3)] == ["one", 3]
