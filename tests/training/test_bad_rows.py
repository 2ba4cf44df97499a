"""Faulty rows, files and options of each kind of input and output: one line for each fault, before training."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.training.assemble import Parts, assemble, resolved
from eir_seq.training.console import Console
from tests.training.everything import DECODER, INPUTS, OUTPUTS, SPAN, experiment, write_rows

Row = dict[str, Any]
SKIP = "; data.on_bad_row=skip leaves such rows out"
TABLE = {"tabular": INPUTS["tabular"]}
LABEL = {"label": {"type": "classification", "column": "label"}}
NUMBERS = {"numbers": {"type": "array", "column": "numbers"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_rows(folder, "good", 24, 0)
    np.save(folder / "nan.npy", np.full((2, 12), np.nan))
    (folder / "cut.png").write_bytes((folder / "good0.png").read_bytes()[:100])
    (folder / "bomb.png").write_bytes(png(60_000, 60_000))
    return folder


def png(width: int, height: int) -> bytes:
    """A small file that claims to hold a large picture."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def faults(
    folder: Path, inputs: Any, outputs: Any, change: Callable[[list[Row]], object] = lambda rows: None, **sections: Any
) -> list[str]:
    """What is said about the table with changed rows, without the folder."""
    rows = [json.loads(line) for line in (folder / "good.jsonl").read_text().splitlines()]
    change(rows)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as caught:
        assembled(experiment(folder, inputs, outputs, **sections))
    said = [str(fault).replace(f"{folder}/", "").replace(str(folder), "FOLDER") for fault in caught.value.faults]
    return [line.replace(SKIP, "") for line in said]


def assembled(experiment: dict[str, Any]) -> Parts:
    with Console() as console:
        return assemble(resolved(validate_experiment(experiment), console), console)


def setting(column: str, value: Any, row: int | None = None) -> Callable[[list[Row]], None]:
    """A value in one row, or in all."""

    def change(rows: list[Row]) -> None:
        for changed in rows if row is None else [rows[row]]:
            changed[column] = value

    return change


ROWS: Mapping[str, tuple[Any, Any, Callable[[list[Row]], None], str]] = {
    "truncated picture": (
        {"photo": INPUTS["image"]}, LABEL, setting("picture", "cut.png", 3),
        "train.jsonl line 4: 'picture' names cut.png, a picture that cannot be read to its end (image file is "
        "truncated)",
    ),
    "decompression bomb": (
        {"photo": INPUTS["image"]}, LABEL, setting("picture", "bomb.png", 3),
        "train.jsonl line 4: 'picture' names bomb.png, which is no picture (it has too many pixels; at most "
        "67,108,864 are read)",
    ),
    "lists of different lengths": (
        NUMBERS, LABEL, setting("numbers", [[1, 2], [3]], 3),
        "train.jsonl line 4: 'numbers' is [[1, 2], [3]], which cannot be read as an array (its lists differ in length)",
    ),
    "texts for numbers": (
        NUMBERS, LABEL, setting("numbers", [1, "a"], 3),
        "train.jsonl line 4: 'numbers' is [1, \"a\"], which cannot be read as an array (its values are texts, not "
        "integers, floats or truth values)",
    ),
    "nothing but NaN": (
        {"scan": INPUTS["array"]}, LABEL, setting("array", "nan.npy"),
        "inputs.scan.column: no training row has a value in column 'array': all of them are missing (NaN)",
    ),
    "an empty column": (
        TABLE, LABEL, setting("age", None),
        "inputs.tabular.continuous: no training row has a value in column 'age'; leave it out",
    ),
    "a constant count": (
        TABLE, {"n": OUTPUTS["poisson"]}, setting("count", 2),
        "outputs.n.column: column 'count' is 2 on all 16 training rows; nothing to learn",
    ),
    "a negative time": (
        TABLE, {"life": OUTPUTS["cox"]}, setting("days", -1.5, 3),
        "train.jsonl line 4: 'days' is -1.5, not a time of 0 or more",
    ),
    "a code that is no event": (
        TABLE, {"life": OUTPUTS["cox"]}, setting("died", 2, 3),
        "train.jsonl line 4: 'died' is '2', not 1 or 0 (an event, or none)",
    ),
    "a level that is not listed": (
        TABLE, {"grade": OUTPUTS["ordinal"]}, setting("grade", "hihg", 3),
        "train.jsonl line 4: 'grade' is 'hihg', not one of low, mid, high; did you mean 'high'?",
    ),
    "a level of one row": (
        TABLE, {"grade": OUTPUTS["ordinal"]},
        lambda rows: [row.update(grade=["low", "mid"][number % 2] if number else "high")
                      for number, row in enumerate(rows)],
        "outputs.grade.column: class 'high' has a single row ('good0'), which cannot be in both parts: remove it, or "
        "set data.stratify=null or data.validation=FILE",
    ),
    "a negative count": (
        TABLE, {"n": OUTPUTS["poisson"]}, setting("count", -1, 3),
        "train.jsonl line 4: 'count' is -1, which no count is (loss 'poisson')",
    ),
    "a text for a list of labels": (
        TABLE, {"tags": OUTPUTS["tags"]}, setting("tags", "p;q", 3),
        "train.jsonl line 4: 'tags' is 'p;q', not a list of labels; for labels separated by a character, give "
        "delimiter",
    ),
    "a file elsewhere": (
        {"raw": INPUTS["bytes"]}, LABEL, setting("file", "/etc/passwd", 3),
        "train.jsonl line 4: 'file' names /etc/passwd, outside of the folder FOLDER (data.file_dir)",
    ),
    "a file in another folder": (
        {"scan": INPUTS["array"]}, LABEL, setting("array", "../x.npy", 3),
        "train.jsonl line 4: 'array' names ../x.npy, outside of the folder FOLDER (data.file_dir)",
    ),
    "one level": (
        TABLE, {"grade": {"type": "ordinal", "column": "grade", "order": ["low", "mid"]}}, setting("grade", "low"),
        "outputs.grade.column: column 'grade' has 1 level ('low') in the training rows; need 2",
    ),
    "an answer that is not in its text": (
        SPAN["inputs"], SPAN["outputs"], setting("answers", {"text": ["nowhere"], "answer_start": [0]}, 3),
        "train.jsonl line 4: 'answers' has the answer 'nowhere', which is not in the text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows(folder: Path, name: str) -> None:
    inputs, outputs, change, line = ROWS[name]
    assert faults(folder, inputs, outputs, change) == [line]


def test_each_faulty_row_is_named(folder: Path) -> None:
    grade = {"grade": {"type": "ordinal", "column": "grade", "order": ["lo", "mid", "high"]}}
    lines = faults(folder, TABLE, grade)
    level = "'grade' is 'low', not one of lo, mid, high; did you mean 'lo'?"
    assert lines == [f"train.jsonl line {line}: {level}" for line in range(1, 25, 3)]


SKIPPED: Mapping[str, tuple[Any, Any, str, Any]] = {
    "picture": ({"photo": INPUTS["image"]}, LABEL, "picture", "cut.png"),
    "answer": (SPAN["inputs"], SPAN["outputs"], "answers", {"text": ["nowhere"], "answer_start": [0]}),
    "time": (TABLE, {"life": OUTPUTS["cox"]}, "days", -1),
    "event": (TABLE, {"life": OUTPUTS["discrete"]}, "cause", "z"),
    "level": (TABLE, {"grade": OUTPUTS["ordinal"]}, "grade", "hihg"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_faulty_rows_are_left_out(folder: Path, name: str) -> None:
    inputs, outputs, column, value = SKIPPED[name]
    rows = [json.loads(line) for line in (folder / "good.jsonl").read_text().splitlines()]
    rows[3][column] = value
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = assembled(experiment(folder, inputs, outputs, data={"on_bad_row": "skip"}))
    assert [row.id for row in parts.splits.skipped] == ["good3"]


def test_files_of_another_folder(folder: Path) -> None:
    """`data.file_dir` says which."""
    (folder / "train.jsonl").write_text((folder / "good.jsonl").read_text())
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.jsonl").write_text((folder / "good.jsonl").read_text())
    given = {"train": str(elsewhere / "train.jsonl"), "file_dir": str(folder)}
    assert assembled(experiment(folder, {"raw": INPUTS["bytes"]}, LABEL, data=given)).splits.train
    with pytest.raises(UserError, match=r"^data\.file_dir: \S+/none is not a folder$"):
        assembled(experiment(folder, {"raw": INPUTS["bytes"]}, LABEL, data={"file_dir": str(folder / "none")}))


def test_warnings(folder: Path) -> None:
    """What can be trained and yet looks wrong."""
    rows = [{**json.loads(line), "b": 0} for line in (folder / "good.jsonl").read_text().splitlines()]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = assembled(experiment(folder, TABLE, {"many": {"type": "multi_label", "columns": ["a", "b"]}}))
    assert parts.data.warnings == ["outputs.many: labels that no training row has: 'b'"]
    levels = {"type": "ordinal", "column": "grade", "order": ["none", "low", "mid", "high"]}
    parts = assembled(experiment(folder, TABLE, {"grade": levels}, data={"validation": 14}))
    assert parts.data.warnings == ["outputs.grade: levels that no training row has: 'none'"]
    assert parts.splits.warnings == ("data.validation: 14 of 24 rows are held out, which leaves 10 for training",)


def test_columns_of_lists_are_no_categories(folder: Path) -> None:
    """`columns: auto` leaves them out."""
    (folder / "train.jsonl").write_text((folder / "good.jsonl").read_text())
    with Console() as console:
        config = validate_experiment(experiment(folder, {"all": {"type": "tabular", "columns": "auto"}}, LABEL))
        found: Any = resolved(config, console).inputs["all"]
    assert not {"tags", "numbers", "answers"} & {*found.categorical, *found.continuous}
    assert {"ward", "age"} <= {*found.categorical, *found.continuous}


OPTIONS: Mapping[str, tuple[Any, Any, dict[str, Any], str]] = {
    "1.5 rows": (
        TABLE, LABEL, {"data": {"validation": 1.5}},
        "data.validation: 1.5 is neither a fraction of the rows, such as 0.1, nor a number of rows, such as 500",
    ),
    "no rows left": (
        TABLE, LABEL, {"data": {"validation": 24}},
        "data.validation: 24 rows cannot be drawn of the 24: at least one must stay for training",
    ),
    "the id as an input": (
        {"tabular": {"type": "tabular", "categorical": ["id"]}}, LABEL, {},
        "inputs.tabular.categorical: column 'id' holds the row ids; to read it as well, rename it, and name it in "
        "data.id: data.rename={id: name} data.id=name",
    ),
    "no text to write from": (
        TABLE, {"reply": {"type": "seq2seq_lm", "column": "reply"}}, {},
        "outputs.reply: needs a sequence input, or a model of its own (outputs.reply.model); there is none",
    ),
    "no text at all": (
        {"photo": INPUTS["image"]}, {"text": {"type": "masked_lm"}}, {}, "outputs.text: needs a sequence input; "
        "there is none",
    ),
    "a span of a table": (
        {**TABLE, **SPAN["inputs"]}, {**LABEL, "answer": {**SPAN["outputs"]["answer"], "input": "tabular"}}, {},
        "outputs.answer.input: 'tabular' is not a sequence input (there are: 'context')",
    ),
    "too many sides": (
        {"scan": {"type": "array", "column": "array", "model": {
            "model_type": "transformer", "model_init_config": {"patch_size": [1] * 4}}}},
        LABEL, {},
        "inputs.scan.model.model_init_config.patch_size: [1, 1, 1, 1] is not a list of 1 to 3 values, each an integer "
        ">= 1",
    ),
    "one cause": (
        TABLE, {"life": {**OUTPUTS["discrete"], "causes": ["x"]}}, {},
        "outputs.life.causes: ['x'] is not a list of at least 2 values, each text",
    ),
    "a question in no column": (
        SPAN["inputs"], {"answer": {**SPAN["outputs"]["answer"], "question": "q"}}, {},
        "outputs.answer.question: no column 'q' in train.jsonl (it has 'id', 'ward', 'age', 'array', 'numbers', "
        "'genes', 'picture', 'file', ...)",
    ),
    "an encoder that does not exist": (
        {"photo": {**INPUTS["image"], "mode": "L", "model": {"model_type": "resent"}}}, LABEL, {},
        "inputs.photo.model.model_type: 'resent' is neither one of cnn, resnet, vit, identity, timm nor in the "
        "catalogue; did you mean 'resnet'?",
    ),
    "an encoder of another kind": (
        TABLE, {**LABEL, "reply": {**OUTPUTS["text"], "model": {**DECODER, "model_type": "cnn"}}}, {},
        "outputs.reply.model.model_type: 'cnn' is not in the catalogue; see `eir_seq models list`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options(folder: Path, name: str) -> None:
    inputs, outputs, sections, line = OPTIONS[name]
    assert faults(folder, inputs, outputs, **sections) == [line]
