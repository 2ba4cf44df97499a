"""Everything that may be wrong with a user's files: each gives one clear line that says where and what."""

# ruff: noqa: E501
from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from tests.data.conftest import Config, as_csv, reviews, write

GOOD = as_csv(reviews(20))
REGRESSION = {"outputs": {"score": {"type": "regression", "column": "score"}}}


def scores(*values: str) -> str:
    return "id,text,score\n" + "".join(f"{i},some text,{value}\n" for i, value in enumerate(values))


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


LINE = '{"id": "%d", "text": "some text", "sentiment": "%s"}\n'
JSONL = "".join(LINE % (i, "good" if i % 2 else "bad") for i in range(6))
PARQUET = parquet(id=["1", "2"], text=["a", "b"], sentiment=["x", "y"])

# name of the file, its content, further keys of `data`, what the message must say
CASES: dict[str, tuple[str, str | bytes, dict[str, Any], str]] = {
    "empty file": ("a.csv", "", {}, r"^data\.train: \S+a\.csv is empty$"),
    "header only": ("a.csv", "id,text,sentiment\n", {}, r"^data\.train: \S+a\.csv has a header and no rows$"),
    "unknown suffix": ("a.xlsx", "x", {}, r"^data\.train: .*determined by the file's suffix, one of \.csv, \.tsv"),
    "Excel as csv": ("a.csv", b"PK\x03\x04rest", {}, r"zip archive or an Excel workbook; save the table as CSV"),
    "missing text column": (
        "a.csv",
        GOOD.replace("text,", "txt,"),
        {},
        r"^inputs\.review\.column: no column 'text' in \S+; did you mean 'txt'\? \(it has 'id', 'txt', 'sentiment'\)$",
    ),
    "missing target column": ("a.csv", "id,text\n1,x\n", {}, r"^outputs\.sentiment\.column: no column 'sentiment' in"),
    "missing id column": ("a.csv", GOOD, {"id": "Id"}, r"^data\.id: no column 'Id' in \S+; did you mean 'id'\?"),
    "missing group column": ("a.csv", GOOD, {"group": "author"}, r"^data\.group: no column 'author'"),
    "wrong delimiter": (
        "a.csv",
        GOOD.replace(",", ";"),
        {},
        r"^data\.delimiter: only one column was found in \S+ \('id;text;sentiment'\): is the delimiter ';'\?$",
    ),
    "tabs in csv": ("a.csv", GOOD.replace(",", "\t"), {}, r"is the delimiter a tab\?$"),
    "column twice": (
        "a.csv",
        GOOD.replace("id,text", "text,text"),
        {"id": None},
        r"a\.csv: column 'text' occurs 2 times;",
    ),
    "renamed onto another": (
        "a.csv",
        GOOD,
        {"rename": {"sentiment": "text"}},
        r"column 'text' occurs 2 times after data\.rename",
    ),
    "ids repeat": (
        "a.csv",
        GOOD + GOOD.split("\n", 1)[1],
        {},
        r"^data\.id: \S+a\.csv: 20 ids occur more than once: '000' 2 times, '001' 2 times, '002' 2 times, \.\.\.$",
    ),
    "id missing": ("a.csv", GOOD + " ,x,bad\n", {}, r"a\.csv line 22: the id \('id'\) is missing$"),
    "label empty": ("a.csv", GOOD + "x,y,\n", {}, r"a\.csv line 22: 'sentiment' has no label; data\.on_bad_row=skip"),
    "label NaN": ("a.csv", GOOD + "x,y,NaN\n", {}, r"a\.csv line 22: 'sentiment' has no label"),
    "label null": (
        "a.jsonl",
        JSONL + LINE.replace('"%s"', "null") % 9,
        {},
        r"a\.jsonl line 7: 'sentiment' has no label",
    ),
    "number as text": (
        "a.csv",
        scores("1", "high", "2"),
        REGRESSION,
        r"a\.csv line 3: 'score' is 'high', not a number; data\.on_bad_row=skip leaves",
    ),
    "decimal comma": (
        "a.csv",
        scores("1", '"1,5"'),
        REGRESSION,
        r"line 3: 'score' is '1,5', not a number \(a decimal comma",
    ),
    "digits with underscore": ("a.csv", scores("1", "1_0"), REGRESSION, r"line 3: 'score' is '1_0', not a number"),
    "infinite number": (
        "a.csv",
        scores("1", "-inf"),
        REGRESSION,
        r"a\.csv line 3: 'score' is '-inf', infinite; data\.on_bad_row=skip leaves",
    ),
    "number missing": ("a.csv", scores("1", "NA"), REGRESSION, r"a\.csv line 3: 'score' has no label"),
    "one class": (
        "a.csv",
        GOOD.replace("good", "bad"),
        {},
        r"outputs\.sentiment\.column: every training row has the class",
    ),
    "text empty": ("a.csv", GOOD + "x,,bad\n", {}, r"a\.csv line 22: 'text' is empty; data\.on_bad_row=skip leaves"),
    "text blank": ("a.csv", GOOD + "x, \t,bad\n", {}, r"a\.csv line 22: 'text' is blank"),
    "NUL": ("a.csv", GOOD + "x,a\0b,bad\n", {}, r"a\.csv line 22: 'text' has a NUL character at position 1"),
    "all texts empty, skipping": (
        "a.csv",
        "id,text,sentiment\n1,,a\n2,,b\n",
        {"on_bad_row": "skip"},
        r"a\.csv: no row can be used \('text' is empty\)$",
    ),
    "latin-1": (
        "a.csv",
        (GOOD + "x,caf\xe9,bad\n").encode("latin-1"),
        {},
        rf"a\.csv is not UTF-8: byte 0xe9 at offset {len(GOOD) + 5}, line 22; save the file as UTF-8$",
    ),
    "last character cut off": ("a.csv", (GOOD + "x,y,caf\u00e9").encode()[:-1], {}, r"not UTF-8: byte 0xc3 at offset"),
    "UTF-16": ("a.csv", GOOD.encode("utf-16"), {}, r"a\.csv is UTF-16; save it as UTF-8$"),
    "ragged row": ("a.csv", GOOD + "x,y\n", {}, r"a\.csv line 22: 2 fields where the header has 3; quote fields"),
    "ragged row after lines in quotes": (
        "a.csv",
        GOOD + 'x,"a\nb\nc",bad\nx,y\n',
        {},
        r"a\.csv line 25: 2 fields where",
    ),
    "unclosed quote": (
        "a.csv",
        GOOD + 'x,"y,bad\n' + "z,y,bad\n",
        {},
        r"a\.csv line 22: a quote is opened and never closed",
    ),
    "text behind a quote": ("a.csv", GOOD + 'x,"y"z,bad\n', {}, r"a\.csv line 22: ',' expected after '\"'"),
    "broken JSON line": (
        "a.jsonl",
        JSONL + '{"id": \n' + JSONL,
        {},
        r"a\.jsonl line 7: not valid JSON: Expecting value",
    ),
    "JSON line is no object": (
        "a.jsonl",
        JSONL + "[1]\n",
        {},
        r"a\.jsonl line 7: a list where a JSON object is expected$",
    ),
    "JSON key twice": ("a.jsonl", JSONL + '{"id": "a", "id": "b"}\n', {}, r"a\.jsonl line 7: key 'id' occurs twice$"),
    "JSON type changes": (
        "a.jsonl",
        JSONL + LINE.replace('"some text"', "5") % (9, "bad"),
        {},
        r"a\.jsonl line 7: 'text' is a number here and a text in the rows before$",
    ),
    "JSON half a character": (
        "a.jsonl",
        JSONL + LINE.replace("some text", "a\\ud800") % (9, "bad"),
        {},
        r"half a character \(\\ud800\) at",
    ),
    "JSON list as text": (
        "a.jsonl",
        JSONL + LINE.replace('"some text"', "[]") % (9, "bad"),
        {},
        r"line 7: 'text': a list where",
    ),
    "JSON nested too deep": ("a.jsonl", "[" * 100_000 + "]" * 100_000, {}, r"a\.jsonl is not valid JSON: "),
    "JSON has no such key": (
        "a.jsonl",
        JSONL.replace("text", "review"),
        {},
        r"no column 'text' in \S+ \(it has 'id', 'review'",
    ),
    "parquet truncated": ("a.parquet", PARQUET[:-40], {}, r"a\.parquet is truncated or damaged \("),
    "parquet is text": ("a.parquet", GOOD, {}, r"a\.parquet is truncated or damaged \("),
    "parquet without rows": (
        "a.parquet",
        parquet(id=pa.array([], pa.string()), text=pa.array([], pa.string()), sentiment=pa.array([], pa.string())),
        {},
        r"a\.parquet has columns and no rows$",
    ),
    "text column of lists": (
        "a.parquet",
        parquet(id=["1", "2"], text=[[1], [2]], sentiment=["x", "y"]),
        {},
        r"inputs\.review\.column: column 'text' of \S+ holds list<\w+: int64>, not text$",
    ),
    "arrow truncated": ("a.arrow", b"ARROW1\0\0" + b"\0" * 30, {}, r"a\.arrow is truncated or damaged \("),
    "gzip truncated": (
        "a.csv.gz",
        gzip.compress(GOOD.encode())[:-30],
        {},
        r"a\.csv\.gz: the compressed file is truncated",
    ),
    "gzip of nothing known": ("a.gz", gzip.compress(b"x"), {}, r"determined by the file's suffix"),
    "fraction of no row": ("a.csv", GOOD, {"validation": 0.01}, r"data\.validation: 0\.01 of 20 rows is no row"),
    "class with a single row": (
        "a.csv",
        GOOD + "x,y,odd\n",
        {},
        r"outputs\.sentiment\.column: class 'odd' has a single row \('x'\)",
    ),
    "class only in validation": (
        "a.csv",
        GOOD,
        {"validation": "b.csv", "other": as_csv(reviews(3, first=50, classes=("goood", "bad")))},
        r"outputs\.sentiment\.column: class 'goood' of 'sentiment' is in validation \(rows '050' and 1 more\) and not in "
        r"training; did you mean 'good'\? \(\S+b\.csv line 2\)$",
    ),
    "ids in training and validation": (
        "a.csv",
        GOOD,
        {"validation": "b.csv", "other": GOOD},
        r"^data\.id: 20 ids are both in \S+a\.csv \(train\) and in \S+b\.csv \(validation\): '000', '001', '002', \.\.\.; ",
    ),
    "text and target in one column": (
        "a.csv",
        GOOD,
        {"outputs": {"sentiment": {"type": "classification", "column": "text"}}},
        r"^inputs\.review\.column: column 'text' is already read as a class \(outputs\.sentiment\.column\)$",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_files(config: Config, tmp_path: Path, case: str) -> None:
    name, content, data, message = CASES[case]
    data = dict(data)
    if "other" in data:
        data["validation"] = write(tmp_path / data["validation"], data.pop("other"))
    with pytest.raises(UserError, match=message) as caught:
        load_splits(config(train=write(tmp_path / name, content), **data))
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)


def folder(path: Path) -> str:
    path.mkdir()
    return str(path)


def fifo(path: Path) -> str:
    os.mkfifo(path)
    return str(path)


def loop(path: Path) -> str:
    path.symlink_to(path)
    return str(path)


def near(path: Path) -> str:
    write(path.parent / "train.csv", GOOD)
    return str(path.parent / "trian.csv")


PATHS: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda path: str(path / "nowhere"), r"^data\.train: no such file: \S+nowhere$"),
    "misspelt": (near, r"^data\.train: no such file: \S+trian\.csv; did you mean 'train\.csv'\?$"),
    "a pipe": (fifo, r"is a pipe, socket or device, not a regular file$"),
    "a device": (lambda _: "/dev/null", r"/dev/null is a pipe, socket or device"),
    "a link to itself": (loop, r"too many levels of symbolic links"),
    "a folder without texts": (folder, r"holds no <id>\.txt file; it is empty$"),
}


@pytest.mark.parametrize("case", PATHS)
def test_bad_paths(config: Config, tmp_path: Path, case: str) -> None:
    build, message = PATHS[case]
    labels = write(tmp_path / "labels.csv", "id,sentiment\n1,bad\n")
    with pytest.raises(UserError, match=message):
        load_splits(config(train=build(tmp_path / "a.csv"), labels=labels))


def test_a_folder_as_label_table(config: Config, tmp_path: Path) -> None:
    write(tmp_path / "texts" / "1.txt", "x")
    with pytest.raises(UserError, match=r"^data\.labels: \S+ is a folder, not a file$"):
        load_splits(config(train=str(tmp_path / "texts"), labels=str(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", GOOD)
    os.chmod(path, 0)
    with pytest.raises(UserError, match=r"^data\.train: \S+a\.csv: permission denied$"):
        load_splits(config(train=path))


def test_a_label_table_beside_a_file(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", GOOD)
    with pytest.raises(UserError, match=r"^data\.labels: only a folder of text files is joined with a table of labels"):
        load_splits(config(train=path, labels=path))


FOLDERS: dict[str, tuple[dict[str, bytes], str | None, dict[str, Any], str]] = {
    "no overlap": (
        {"a": b"x", "b": b"y"},
        "c,bad\nd,good\n",
        {},
        r"data\.id: no file of \S+ \('a', \.\.\.\) has a label in \S+ \('c', ",
    ),
    "leading zeros": ({"007": b"x"}, "7,bad\n8,good\n", {}, r"has a label in .*; they differ by leading zeros$"),
    "suffix in the table": ({"a": b"x"}, "a.txt,bad\n", {}, r"has a label in .*; they differ by a file suffix$"),
    "labels missing": ({"a": b"x"}, None, {}, r"^data\.labels: give the table with the labels of the text files$"),
    "label twice": ({"a": b"x"}, "a,bad\na,good\n", {}, r"labels\.csv: 1 ids occur more than once: 'a' 2 times$"),
    "no id column": ({"a": b"x"}, "a,bad\n", {"id": None}, r"^data\.id: give the column of \S+labels\.csv that holds"),
    "not UTF-8": ({"a": b"caf\xe9"}, "a,bad\n", {}, r"a\.txt is not UTF-8: byte 0xe9 at offset 3, line 1"),
    "empty text": (
        {"a": b"", "b": b"x"},
        "a,bad\nb,good\n",
        {},
        r"texts/a\.txt: 'text' is empty; data\.on_bad_row=skip",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_folders(config: Config, tmp_path: Path, case: str) -> None:
    texts, labels, data, message = FOLDERS[case]
    for row_id, content in texts.items():
        write(tmp_path / "texts" / f"{row_id}.txt", content)
    table = write(tmp_path / "labels.csv", "id,sentiment\n" + labels) if labels is not None else None
    with pytest.raises(UserError, match=message):
        load_splits(config(train=str(tmp_path / "texts"), labels=table, **data))


def test_a_huge_number_of_columns_gives_a_short_message(config: Config, tmp_path: Path) -> None:
    header = ",".join(f"c{i}" for i in range(100_000))
    with pytest.raises(UserError) as caught:
        load_splits(config(train=write(tmp_path / "a.csv", header + "\n" + header + "\n")))
    assert all(len(str(fault)) < 400 for fault in caught.value.faults)
