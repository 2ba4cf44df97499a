"""Tables that can be read and are not tidy: columns that nobody reads, stray quotes, spellings, other shapes of JSON."""

# ruff: noqa: E501
from __future__ import annotations

import decimal
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.data.readers.base import Wanted
from eir_seq.data.readers.header import check_header
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from tests.data.conftest import Config, as_csv, reviews, write

ROWS = reviews(6)
IDS, TEXTS, LABELS = (list(column) for column in zip(*ROWS, strict=True))
LINES = [json.dumps({"id": i, "text": t, "sentiment": s}) for i, t, s in ROWS]


def arrow(*, extra: dict[str, pa.Array], names: list[str]) -> pa.Table:
    columns = [pa.array(IDS), pa.array(TEXTS), pa.array(LABELS), *extra.values()]
    return pa.Table.from_arrays(columns, ["id", "text", "sentiment", *names])


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def ipc(table: pa.Table, *, stream: bool = False) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


TWICE = arrow(extra={"a": pa.array(range(6)), "b": pa.array(range(6))}, names=["x", "x"])
ODD = arrow(
    extra={
        "nested": pa.array([{"a": [{"b": i}]} for i in range(6)]),
        "decimal": pa.array([decimal.Decimal("1.5")] * 6),
        "binary": pa.array([b"\xff\xfe"] * 6),
        "time": pa.array([0] * 6, pa.duration("s")),
    },
    names=["nested", "decimal", "binary", "time"],
)


def with_columns(header: str, ends: list[str], delimiter: str = ",") -> str:
    rows = [delimiter.join(row) + delimiter + end for row, end in zip(ROWS, ends, strict=True)]
    return "\n".join([delimiter.join(("id", "text", "sentiment")) + delimiter + header, *rows]) + "\n"


UNREAD: dict[str, tuple[str, str | bytes]] = {
    "csv, the same name twice": ("a.csv", with_columns("note,note", ["a,b"] * 6)),
    "csv, no names": ("a.csv", with_columns(",", [","] * 6)),
    "csv, bytes that are not UTF-8": ("a.csv", with_columns("n", [f"caf\xe9{i}" for i in range(6)]).encode("latin-1")),
    "csv, a name that is not UTF-8": ("a.csv", with_columns("caf\xe9", ["x"] * 6).encode("latin-1")),
    "tsv, the same name twice": ("a.tsv", with_columns("n\tn", ["a\tb"] * 6, "\t")),
    "csv.gz, bytes that are not UTF-8": (
        "a.csv.gz",
        gzip.compress(with_columns("n", ["\xe9"] * 6).encode("latin-1")),
    ),
    "jsonl, other types from row to row": (
        "a.jsonl",
        "\n".join(
            line[:-1] + f', "n": {n}}}' for line, n in zip(LINES, ["1", '"x"', "[]", "{}", "null", "true"], strict=True)
        ),
    ),
    "jsonl, a key twice": ("a.jsonl", "\n".join(line[:-1] + ', "n": 1, "n": 2}' for line in LINES)),
    "jsonl, half a character": ("a.jsonl", "\n".join(line[:-1] + ', "n": "\\ud800"}' for line in LINES)),
    "jsonl, bytes that are not UTF-8": (
        "a.jsonl",
        "\n".join(line[:-1] + ', "n": "\xe9"}' for line in LINES).encode("latin-1"),
    ),
    "parquet, the same name twice": ("a.parquet", parquet(TWICE)),
    "parquet, types that are not read": ("a.parquet", parquet(ODD.drop_columns(["time"]))),
    "arrow, the same name twice": ("a.arrow", ipc(TWICE)),
    "arrow, types that are not read": ("a.arrow", ipc(ODD)),
    "arrow stream, the same name twice": ("a.arrow", ipc(TWICE, stream=True)),
    "arrow stream, types that are not read": ("a.arrow", ipc(ODD, stream=True)),
}


@pytest.mark.parametrize("case", UNREAD)
def test_columns_that_nobody_reads_are_left_alone(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    name, content = UNREAD[case]
    splits = load_splits(config(train=write(tmp_path / name, content), validation=None))
    check_first_look(str(tmp_path / name), config, monkeypatch)
    assert splits.train is not None
    assert [tuple(row.values()) for row in splits.train] == ROWS
    assert splits.warnings == ()


def test_an_empty_field_of_a_conll_column_that_nobody_reads(config: Config, tmp_path: Path) -> None:
    content = "Ada\t\tB\nwrote\tcaf\xe9\tO\n\nBob\tNNP\tB\n"
    path = write(tmp_path / "a.conll", content.encode("latin-1"))
    words = {"type": "sequence", "column": "words", "is_split_into_words": True, "model": {"model_type": "bert"}}
    tags = {"type": "token_classification", "column": "tags"}
    splits = load_splits(config(train=path, id=None, validation=None, inputs={"w": words}, outputs={"t": tags}))
    assert splits.train is not None
    assert splits.train["words"][0] == '["Ada", "wrote"]'
    write(tmp_path / "a.conll", content.replace("Bob", "Bj\xf6rn").encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.conll is not UTF-8: byte 0xf6 at offset \d+, line 4;"):
        load_splits(config(train=path, id=None, validation=None, inputs={"w": words}, outputs={"t": tags}))


WANTED_TWICE: dict[str, tuple[str, str | bytes]] = {
    "csv": ("a.csv", as_csv(ROWS, header="id,text,text")),
    "parquet": ("a.parquet", parquet(arrow(extra={"a": pa.array(LABELS)}, names=["text"]))),
    "arrow": ("a.arrow", ipc(arrow(extra={"a": pa.array(LABELS)}, names=["text"]))),
}


@pytest.mark.parametrize("case", WANTED_TWICE)
def test_a_wanted_column_must_not_occur_twice(config: Config, tmp_path: Path, case: str) -> None:
    name, content = WANTED_TWICE[case]
    with pytest.raises(UserError, match=r"column 'text' occurs 2 times; give each its own name"):
        load_splits(config(train=write(tmp_path / name, content), validation=None))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_bytes_of_a_wanted_column_that_are_not_utf8(config: Config, tmp_path: Path, suffix: str) -> None:
    rows = [*ROWS[:2], ("002", "caf\xe9", "bad"), *ROWS[3:]]
    text = "\n".join(
        json.dumps(dict(zip(("id", "text", "sentiment"), row, strict=True)), ensure_ascii=False) for row in rows
    )
    content = (with_columns("n", ["\xff"] * 6).replace(TEXTS[2], "caf\xe9") if suffix == "csv" else text).encode(
        "latin-1"
    )
    where = (
        r"a\.csv is not UTF-8: byte 0x.. at offset \d+, line 4;"
        if suffix == "csv"
        else r"a\.jsonl line 3: 'text': byte 0xe9"
    )
    with pytest.raises(UserError, match=where):
        load_splits(config(train=write(tmp_path / f"a.{suffix}", content), validation=None))


def check_first_look(path: str, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is readable has no fault in its header, of a small file or of a large one."""
    wanted = Wanted(dict.fromkeys(("id", "text", "sentiment"), "place"))
    for small in (1 << 20, 0):
        monkeypatch.setattr("eir_seq.data.readers.header.SMALL", small)
        check_header(path, config(train=path).data, wanted, "data.train")


# -------------------------------------------------------------------------------------------------- stray quotes


def quoted(rows: list[tuple[str, str, str]], delimiter: str) -> str:
    return as_csv(rows, header=delimiter.join(("id", "text", "sentiment")), delimiter=delimiter)


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("end", [2, 4])
def test_a_stray_quote_that_holds_rows_together(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, delimiter: str, end: int
) -> None:
    rows = reviews(8)
    rows[1] = ("001", '"' + rows[1][1], "good")
    rows[end] = (rows[end][0], rows[end][1] + '"', "bad")
    path = write(tmp_path / f"a.{suffix}", quoted(rows, delimiter))
    with caplog.at_level(logging.WARNING):
        splits = load_splits(config(train=path, validation=None))
    (warning,) = splits.warnings
    assert warning.startswith(f"{path} lines 3-{end + 2}: ")
    assert "data.quote=null" in warning
    assert warning in caplog.text
    assert splits.describe()["warnings"] == [warning]
    splits = load_splits(config(train=path, validation=None, quote=None))
    assert splits.train is not None
    assert splits.train.num_rows == 8
    assert splits.warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        "Two lines.\nAnd more",
        "Well, I liked it.\nBut, no",
        "one\ntwo\nthree",
        "a\n\nb, c, d",
        "a list:\n1,5\n2,5,7",
    ],
)
def test_texts_of_several_lines_are_no_stray_quotes(config: Config, tmp_path: Path, text: str) -> None:
    content = as_csv(ROWS) + f'x,"{text}",bad\ny,"{text}",bad\n'
    splits = load_splits(config(train=write(tmp_path / "a.csv", content), validation=None))
    assert splits.train is not None
    assert splits.train["text"][6] == text
    assert splits.warnings == ()
    outputs = {"text": {"type": "causal_lm"}}
    content = f'text\n"{text}"\n"{text}"\n'
    inputs = {"text": {"column": "text", "model": {"model_type": "gpt2"}}}
    splits = load_splits(
        config(train=write(tmp_path / "b.csv", content), id=None, validation=None, inputs=inputs, outputs=outputs)
    )
    assert splits.warnings == ()


def test_stray_quotes_of_a_table_of_labels(config: Config, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for number, (_, text, _) in enumerate(ROWS):
            write(tmp_path / part / f"{part}{number}.txt", text)
    rows = [(f"{part}{number}", "x", label) for number, (*_, label) in enumerate(ROWS) for part in ("train", "test")]
    rows[1], rows[2] = (rows[1][0], '"x', rows[1][2]), (rows[2][0], 'x"', rows[2][2])
    labels = write(tmp_path / "labels.csv", as_csv(rows, header="id,note,sentiment"))
    folders = {part: str(tmp_path / part) for part in ("train", "test")}
    (warning,) = load_splits(config(**folders, labels=labels, validation=None)).warnings
    assert warning.startswith(f"{labels} lines 3-4: a quoted field holds what look like separate rows")


def test_one_of_many_texts_of_several_lines_may_look_like_rows(config: Config, tmp_path: Path) -> None:
    content = as_csv(ROWS) + 'x,"f(1,2)\ng(a),h(b)",bad\n'
    assert len(load_splits(config(train=write(tmp_path / "a.csv", content), validation=None)).warnings) == 1
    content += 'y,"def f():\n  return",bad\nz,"def g():\n  pass",bad\n'
    assert load_splits(config(train=write(tmp_path / "b.csv", content), validation=None)).warnings == ()


def test_a_tab_as_words_of_a_command_line_and_yaml_say_it(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", as_csv(ROWS).replace(",", "\t"))
    splits = load_splits(config(train=path, validation=None, delimiter=r"\t"))
    assert splits.train is not None
    assert splits.train.num_rows == len(ROWS)


def test_a_quote_that_leaves_another_number_of_fields(config: Config, tmp_path: Path) -> None:
    content = as_csv(ROWS) + '006,"never,bad\n007,text "here",bad\n008,"closed",bad\n'
    with pytest.raises(UserError, match=r"data\.quote=null reads quotes as ordinary characters"):
        load_splits(config(train=write(tmp_path / "a.csv", content), validation=None))
    content = as_csv(ROWS) + '006,text,"bad\n007",text,bad\n'
    with pytest.raises(
        UserError, match=r"line 8: 5 fields where the header has 3; a quote holds lines 8 to 9 together"
    ):
        load_splits(config(train=write(tmp_path / "a.csv", content), validation=None))


# ------------------------------------------------------------------------------------------------------ spelling

SPELLINGS: list[tuple[list[str], list[str]]] = [
    (["neg", "neg "], ["'neg' (6 rows) and 'neg ' (6 rows) of 'sentiment' differ only in spaces"]),
    (["Pos", "pos"], ["differ only in upper and lower case"]),
    (["0", "0.0", "1"], ["'0' (4 rows) and '0.0' (4 rows) of 'sentiment' differ only in how the number is written"]),
    (["\u00e9t\u00e9", "e\u0301te\u0301"], ["differ only in Unicode form"]),
    (["Not  good", "not good", "NOT GOOD "], ["and 'NOT GOOD ' (4 rows) of 'sentiment' differ only in spelling"]),
    (["a", "A", "b", "B"], ["'a' (3 rows) and 'A' (3 rows)", "'b' (3 rows) and 'B' (3 rows)"]),
    (["neg", "pos", "neutral"], []),
    (["1", "10", "0.1", "1e1000"], []),
    (["12345678901234567", "12345678901234568"], []),
]


@pytest.mark.parametrize(("classes", "expected"), SPELLINGS)
def test_classes_that_are_spelt_alike(config: Config, tmp_path: Path, classes: list[str], expected: list[str]) -> None:
    path = write(tmp_path / "a.csv", as_csv(reviews(12, classes=tuple(classes))))
    warnings = load_splits(config(train=path, validation=None)).warnings
    assert len(warnings) == len(expected)
    for warning, part in zip(warnings, expected, strict=True):
        assert warning.startswith("outputs.sentiment.column: ")
        assert part in warning


def test_a_spelling_that_only_validation_has(config: Config, tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", as_csv(reviews(6)))
    validation = write(tmp_path / "b.csv", as_csv([("x", "text", "good "), ("y", "text", "bad")]))
    with pytest.raises(UserError, match=r"class 'good ' of .* not in training; did you mean 'good'\?"):
        load_splits(config(train=train, validation=validation))


def test_tags_that_are_spelt_alike(config: Config, tmp_path: Path) -> None:
    rows = [{"words": ["Ada", "wrote"], "tags": tags} for tags in (["B-PER", "O"], ["B-Per", "O"], ["B-PER", "o"])]
    words = {"type": "sequence", "column": "words", "is_split_into_words": True, "model": {"model_type": "bert"}}
    tags = {"type": "token_classification", "column": "tags"}
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    splits = load_splits(config(train=path, id=None, validation=None, inputs={"w": words}, outputs={"t": tags}))
    assert splits.warnings == (
        "outputs.t.column: 'B-PER' (2 words) and 'B-Per' (1 words) of 'tags' differ only in upper and lower case; each "
        "is a separate tag",
        "outputs.t.column: 'O' (2 words) and 'o' (1 words) of 'tags' differ only in upper and lower case; each is a "
        "separate tag",
    )


# ---------------------------------------------------------------------------------------------- what holds the rows

OBJECTS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
SHAPES = {
    "a list below one key": json.dumps({"version": "1", "tags": ["x"], "data": OBJECTS}, indent=1),
    "a list below one key, on one line": json.dumps({"version": "1", "data": OBJECTS}),
    "objects one after another, indented": "\n".join(json.dumps(item, indent=2) for item in OBJECTS),
    "a list, indented": json.dumps(OBJECTS, indent=1),
    "one object per line": "\n\n".join(LINES),
    "lists in unread keys": "\n".join(json.dumps({**item, "more": [{"a": 1}]}) for item in OBJECTS),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_holds_the_rows_of_a_json_file(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    splits = load_splits(config(train=write(tmp_path / "a.json", SHAPES[case]), validation=None))
    check_first_look(str(tmp_path / "a.json"), config, monkeypatch)
    assert splits.train is not None
    assert [tuple(row.values()) for row in splits.train] == ROWS


BROKEN_SHAPES = {
    "several lists": (
        json.dumps({"train": OBJECTS, "test": OBJECTS}, indent=1),
        r"^data\.train: \S+a\.json is one JSON object with 2 lists of objects \('train', 'test'\); write the rows as one list",
    ),
    "no list": (
        json.dumps({"ids": dict(enumerate(IDS))}, indent=1),
        r"^data\.train: \S+a\.json is one JSON object without a list of objects \(its keys: 'ids'\);",
    ),
    "columns": (
        json.dumps({key: [row[key] for row in OBJECTS] for key in OBJECTS[0]}, indent=1),
        r"^data\.train: \S+a\.json holds columns, not rows; write one object per row",
    ),
    "columns of pandas": (
        json.dumps({key: {str(n): row[key] for n, row in enumerate(OBJECTS)} for key in OBJECTS[0]}),
        r"^data\.train: \S+a\.json holds columns, not rows; write one object per row",
    ),
    "a single row": (json.dumps({"txt": "a"}), r"no column 'text' in \S+a\.json; did you mean 'txt'\?"),
    "broken": (
        json.dumps({"data": OBJECTS}, indent=1)[:-20],
        r"^data\.train: \S+a\.json is not valid JSON: Unterminated",
    ),
    "a first line that is broken": (
        "\n".join(['{"id": ', *LINES]),
        r"^\S+a\.json line 1: not valid JSON: Expecting value",
    ),
}


@pytest.mark.parametrize("case", BROKEN_SHAPES)
def test_json_that_holds_no_rows_is_one_fault(config: Config, tmp_path: Path, case: str) -> None:
    content, message = BROKEN_SHAPES[case]
    with pytest.raises(UserError, match=message) as caught:
        load_splits(config(train=write(tmp_path / "a.json", content), validation=None))
    assert len(caught.value.faults) == (3 if case == "a single row" else 1)


def test_numbers_of_json_keep_their_digits_over_batches(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eir_seq.data.readers.jsonl.ROWS_PER_BATCH", 2)
    monkeypatch.setattr("eir_seq.spool.MEMORY", 0)
    rows = [
        {"id": 10**20 + i, "text": TEXTS[i], "score": value}
        for i, value in enumerate([1, 2, 0.1, 2**60 + 1, None, 1e30])
    ]
    outputs = {"score": {"type": "regression", "column": "score"}}
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    splits = load_splits(config(train=path, validation=None, outputs=outputs, on_bad_row="skip"))
    assert splits.train is not None
    assert splits.train["id"][:] == [str(10**20 + i) for i in (0, 1, 2, 3, 5)]
    assert splits.train["score"][:] == [1.0, 2.0, 0.1, float(2**60 + 1), 1e30]
