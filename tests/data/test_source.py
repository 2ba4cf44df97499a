from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.data.source import load_splits, load_test
from eir_seq.errors import UserError
from tests.data.conftest import Config, as_csv, reviews, write


def table(rows: list[tuple[str, str, str]]) -> pa.Table:
    return pa.table(dict(zip(("id", "text", "sentiment"), map(list, zip(*rows, strict=True)), strict=True)))


def jsonl(rows: list[tuple[str, str, str]]) -> str:
    return "".join(json.dumps({"id": i, "text": t, "sentiment": s}) + "\n" for i, t, s in rows)


def write_arrow(path: Path, rows: list[tuple[str, str, str]], *, stream: bool) -> str:
    data = table(rows)
    open_writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with open_writer(str(path), data.schema) as writer:
        writer.write_table(data)
    return str(path)


def write_folder(folder: Path, rows: list[tuple[str, str, str]]) -> str:
    for row_id, text, _ in rows:
        write(folder / f"{row_id}.txt", text)
    return str(folder)


def test_what_is_wrong_with_several_files_is_said_once(config: Config, tmp_path: Path) -> None:
    files = {split: write(tmp_path / f"{split}.csv", "id,txt\n1,x\n") for split in ("train", "validation", "test")}
    files["test"] = write(tmp_path / "test.csv", "id,text,mood\n1,,bad\n")
    with pytest.raises(UserError) as caught:
        load_splits(config(**files))
    lines = [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]
    assert sorted(lines) == [
        "inputs.review.column: no column 'text' in train.csv and validation.csv; did you mean 'txt'? (it has 'id', "
        "'txt')",
        "outputs.sentiment.column: no column 'sentiment' in test.csv (it has 'id', 'text', 'mood')",
        "outputs.sentiment.column: no column 'sentiment' in train.csv and validation.csv (it has 'id', 'txt')",
    ]


@pytest.mark.parametrize(
    "form", ["csv", "csv.gz", "bom", "crlf", "tsv", "jsonl", "json", "parquet", "arrow", "stream", "folder"]
)
def test_every_form_gives_the_same_rows(config: Config, tmp_path: Path, form: str) -> None:
    rows, data = reviews(20), {}
    if form == "csv":
        path = write(tmp_path / "a.csv", as_csv(rows))
    elif form == "csv.gz":
        path = write(tmp_path / "a.csv.gz", gzip.compress(as_csv(rows).encode()))
    elif form == "bom":
        path = write(tmp_path / "a.csv", b"\xef\xbb\xbf" + as_csv(rows).encode())
    elif form == "crlf":
        path = write(tmp_path / "a.csv", as_csv(rows).replace("\n", "\r\n"))
    elif form == "tsv":
        path = write(tmp_path / "a.tsv", as_csv(rows, header="id\ttext\tsentiment", delimiter="\t"))
    elif form == "jsonl":
        path = write(tmp_path / "a.jsonl", jsonl(rows))
    elif form == "json":
        path = write(tmp_path / "a.json", json.dumps([json.loads(line) for line in jsonl(rows).splitlines()]))
    elif form == "parquet":
        path = str(tmp_path / "a.parquet")
        pq.write_table(table(rows), path)
    elif form in ("arrow", "stream"):
        path = write_arrow(tmp_path / "a.arrow", rows, stream=form == "stream")
    else:
        path = write_folder(tmp_path / "texts", rows)
        label_lines = "\n".join(f"{row_id},{label}" for row_id, _, label in reversed(rows))
        data["labels"] = write(tmp_path / "labels.csv", f"id,sentiment\n{label_lines}\n")
    splits = load_splits(config(train=path, validation=0.25, **data))
    assert splits.train is not None
    assert splits.validation is not None
    assert (splits.train.num_rows, splits.validation.num_rows) == (15, 5)
    read = {
        row["id"]: (row["id"], row["text"], row["sentiment"])
        for part in (splits.train, splits.validation)
        for row in part
    }
    assert read == {row[0]: row for row in rows}
    assert splits.fingerprint == load_splits(config(train=path, validation=0.25, **data)).fingerprint
    description = splits.describe()
    assert description["rows"] == {"train": 15, "validation": 5}
    assert description["files"][0]["rows"] == 20
    assert len(description["files"][0]["sha256"]) == 64


def test_values_stay_what_stands_in_the_file(config: Config, tmp_path: Path) -> None:
    content = 'id,text,sentiment\n007,NA,1\n7,"two\nlines, ""quoted""",0\n 7 ,null,1\n1e3,مرحبا 👩‍👩‍👧,0\n'
    splits = load_splits(config(train=write(tmp_path / "a.csv", content), validation=None))
    assert splits.train is not None
    assert splits.train["id"][:] == ["007", "7", " 7 ", "1e3"]
    assert splits.train["text"][:] == ["NA", 'two\nlines, "quoted"', "null", "مرحبا 👩‍👩‍👧"]
    assert splits.train["sentiment"][:] == ["1", "0", "1", "0"]


def test_typed_columns_become_text_and_numbers(config: Config, tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"id": [10**15, 2, 3], "text": ["a", "b", "c"], "sentiment": [0.0, 1.0, 0.0], "score": [1, 2, 3]}),
        path,
    )
    outputs = {
        "sentiment": {"type": "classification", "column": "sentiment"},
        "score": {"type": "regression", "column": "score"},
    }
    splits = load_splits(config(train=path, validation=None, outputs=outputs))
    assert splits.train is not None
    assert splits.train[0] == {"id": "1000000000000000", "text": "a", "sentiment": "0", "score": 1.0}
    content = "".join(
        json.dumps({"id": i, "text": str(i), "sentiment": i > 1, "score": i / 2}) + "\n" for i in range(4)
    )
    splits = load_splits(config(train=write(tmp_path / "a.jsonl", content), validation=None, outputs=outputs))
    assert splits.train is not None
    assert splits.train[3] == {"id": "3", "text": "3", "sentiment": "true", "score": 1.5}


def test_given_files_renamed_columns_and_row_numbers(config: Config, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "review,label\ngood film,pos\nbad film,neg\n")
    test = write(tmp_path / "test.csv", "review,label\nfine film,pos\n")
    data = {
        "train": train,
        "validation": test,
        "test": test,
        "id": None,
        "rename": {"review": "text", "label": "sentiment"},
    }
    splits = load_splits(config(**data))
    assert [part["id"][:] for _, part in splits.items()] == [["1", "2"], ["validation-1"], ["test-1"]]
    assert splits.items()[2][1][0] == {"id": "test-1", "text": "fine film", "sentiment": "pos"}


def test_skipped_rows_are_counted_and_listed(config: Config, tmp_path: Path) -> None:
    rows = reviews(20)
    rows[3] = ("003", "", "good")
    rows[4] = ("004", "  \t", "bad")
    rows[5] = ("005", "fine", "NaN")
    rows[6] = ("006", "a\0b", "bad")
    path = write(tmp_path / "a.csv", as_csv(rows))
    splits = load_splits(config(train=path, validation=0.25, on_bad_row="skip"))
    assert [(row.id, row.split, row.place, row.reason) for row in splits.skipped] == [
        ("003", "train", f"{path} line 5", "'text' is empty"),
        ("004", "train", f"{path} line 6", "'text' is blank"),
        ("005", "train", f"{path} line 7", "'sentiment' has no label ('NaN' means that: data.missing_labels)"),
        ("006", "train", f"{path} line 8", "'text' has a NUL character at position 1"),
    ]
    assert sum(part.num_rows for _, part in splits.items()) == 16
    stars = {"stars": {"type": "regression", "column": "sentiment"}}
    path = write(tmp_path / "b.csv", as_csv([("1", "a", "1.5"), ("2", "b", "high"), ("3", "c", "2")]))
    splits = load_splits(config(train=path, validation=None, on_bad_row="skip", outputs=stars))
    assert [(row.id, row.reason) for row in splits.skipped] == [("2", "'sentiment' is 'high', not a number")]
    broken = jsonl(reviews(4)) + '{"id": "x",\n' + jsonl(reviews(4, first=4))
    splits = load_splits(config(train=write(tmp_path / "a.jsonl", broken), validation=None, on_bad_row="skip"))
    assert [(row.id, row.place.rsplit("/")[-1]) for row in splits.skipped] == [("line 5", "a.jsonl line 5")]
    assert splits.train is not None
    assert splits.train.num_rows == 8


def test_files_without_an_entry_in_the_label_table_are_left_out(config: Config, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "texts", reviews(6))
    labels = write(tmp_path / "labels.csv", "id,sentiment\n000,bad\n001,good\n002,bad\n999,bad\n")
    splits = load_splits(config(train=folder, labels=labels, validation=None))
    assert splits.train is not None
    assert splits.train["id"][:] == ["000", "001", "002"]
    assert [row.id for row in splits.skipped] == ["003", "004", "005"]


def test_limit_keeps_the_shares_of_classes(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", as_csv(sorted(reviews(100), key=lambda row: row[2])))
    splits = load_splits(config(train=path, validation=0.2, limit=10))
    assert splits.train is not None
    assert splits.validation is not None
    assert sorted(splits.train["sentiment"][:]) == ["bad"] * 5 + ["good"] * 5
    assert splits.validation.num_rows == 20


def test_what_means_a_missing_label_can_be_said(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text,sentiment\n1,x,None\n2,y,some\n3,z,?\n")
    data = {"train": path, "validation": None, "missing_labels": ["?"]}
    splits = load_splits(config(**data, on_bad_row="skip"))
    assert splits.train is not None
    assert splits.train["sentiment"][:] == ["None", "some"]
    with pytest.raises(UserError, match=r"line 4: 'sentiment' has no label \('\?' means that: data\.missing_labels\)"):
        load_splits(config(**data))


def test_quotes_may_be_ordinary_characters(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'id\ttext\tsentiment\n1\t"never closed\tx\n2\ta "b" c\ty\n')
    splits = load_splits(config(train=path, validation=None, quote=None))
    assert splits.train is not None
    assert splits.train["text"][:] == ['"never closed', 'a "b" c']


def test_the_home_folder_is_found(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.csv", as_csv(reviews(20)))
    assert load_splits(config(train="~/a.csv")).describe()["rows"] == {"train": 18, "validation": 2}


def test_limit_keeps_every_class(config: Config, tmp_path: Path) -> None:
    rows = [*reviews(99), ("x", "rare text", "rare"), ("y", "rare text", "rare")]
    splits = load_splits(config(train=write(tmp_path / "a.csv", as_csv(rows)), validation=0.5, limit=10))
    assert splits.train is not None
    assert set(splits.train["sentiment"]) == {"bad", "good", "rare"}
    assert splits.train.num_rows == 10


def test_the_shipped_sample(config: Config) -> None:
    splits = load_splits(config(source="sample", name="reviews", id=None))
    assert splits.train is not None
    assert splits.validation is not None
    assert splits.train.num_rows >= 1800
    assert set(splits.validation["sentiment"]) == set(splits.train["sentiment"])
    assert splits.train.column_names == ["id", "text", "sentiment"]
    assert not set(splits.train["id"]) & set(splits.validation["id"])


def test_rows_to_predict_need_no_labels(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1,some text\n2,other\n")
    splits = load_test(config(test=path))
    assert splits.train is None
    assert splits.test is not None
    assert splits.test[0] == {"id": "1", "text": "some text", "sentiment": None}
    with pytest.raises(UserError, match="no column 'sentiment'"):
        load_test(config(test=path), need_targets=True)
    sample = load_test(config(source="sample", name="reviews", test=path))
    assert [name for name, _ in sample.items()] == ["test"]
    folder = write_folder(tmp_path / "texts", reviews(3))
    splits = load_test(config(test=folder, id=None))
    assert splits.test is not None
    assert splits.test["id"][:] == ["000", "001", "002"]


def test_hub_layout(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    folder = tmp_path / "movies"
    folder.mkdir()
    for split, labels in {"train": [0, 1, 1, 0], "test": [1, 0]}.items():
        part = datasets.Dataset.from_dict(
            {"text": [f"{split} {i}" for i in range(len(labels))], "label": labels}, features
        )
        part.to_parquet(str(folder / f"{split}-00000.parquet"))
    data = {"source": "hub", "name": str(folder), "id": None, "rename": {"label": "sentiment"}}
    splits = load_splits(config(**data, validation=None, test="test"))
    assert splits.train is not None
    assert splits.test is not None
    assert splits.train["sentiment"][:] == ["neg", "pos", "pos", "neg"]
    assert splits.test[0] == {"id": "test-1", "text": "test 0", "sentiment": "pos"}
    with pytest.raises(UserError, match=r"data\.test: .*movies has no split 'tset'; did you mean 'test'\? \(it has"):
        load_splits(config(**data, validation=None, test="tset"))
    with pytest.raises(UserError, match=r"data\.train: no data set '.*nothing' on the Hub or as a folder"):
        load_splits(config(**{**data, "name": str(tmp_path / "nothing")}, validation=None))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
            "the Hub cannot be reached and a/b is",
        ),
        (OSError("cannot connect"), "the Hub cannot be reached and a/b is not in the local cache; use files"),
        (ValueError("first line\nsecond line"), "a/b cannot be loaded: ValueError: first line second line"),
    ],
)
def test_trouble_with_the_hub_is_one_line(
    config: Config, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=rf"^data\.train: {message}") as caught:
        load_splits(config(source="hub", name="a/b", id=None, validation=None))
    assert len(str(caught.value).splitlines()) == 1


def test_faults_of_several_files_come_together(config: Config, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", as_csv([("1", "", "good"), ("2", "x", "")]))
    test = write(tmp_path / "test.csv", as_csv([("3", "x", "bad"), ("3", "x", "bad")]))
    with pytest.raises(UserError) as caught:
        load_splits(config(train=train, validation="gone.csv", test=test))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[0] == "data.validation: no such file: gone.csv"
    assert "train.csv line 2: 'text' is empty" in lines[1]
    assert "train.csv line 3: 'sentiment' has no label" in lines[2]
    assert "1 ids occur more than once: '3' 2 times" in lines[3]


def test_many_faults_of_a_kind_are_counted(config: Config, tmp_path: Path) -> None:
    rows = [(str(i), "", "good") for i in range(40)]
    with pytest.raises(UserError) as caught:
        load_splits(config(train=write(tmp_path / "a.csv", as_csv(rows))))
    assert len(caught.value.faults) == 11
    assert str(caught.value).endswith("... and 30 more of this kind: 'text' is empty")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow"])
def test_memory_does_not_grow_with_the_file(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Texts lie in mapped files: of each is never more than some batches in memory."""
    for module in ("delimited", "jsonl"):
        monkeypatch.setattr(f"eir_seq.data.readers.{module}.CHARACTERS_PER_BATCH", 1 << 17)
    monkeypatch.setattr("eir_seq.data.readers.delimited.ARROW_BLOCK", 1 << 17)
    for module in ("eir_seq.spool", "eir_seq.data.readers.columnar"):
        monkeypatch.setattr(f"{module}.ROWS_PER_BATCH", 32)
    monkeypatch.setattr("eir_seq.spool.MEMORY", 1 << 17)
    rows = [(row_id, f"{text} " + f"{row_id} word " * 1000, label) for row_id, text, label in reviews(400)]
    path = str(tmp_path / f"a.{form}")
    if form == "csv":
        write(Path(path), as_csv(rows))
    elif form == "jsonl":
        write(Path(path), jsonl(rows))
    elif form == "parquet":
        pq.write_table(table(rows), path, row_group_size=50)
    else:
        write_arrow(Path(path), rows, stream=False)
    size = sum(len(text) for _, text, _ in rows)
    del rows
    data = config(train=path, validation=0.2, cache_dir=str(tmp_path / "cache"))
    load_splits(config(train=write(tmp_path / "small.csv", as_csv(reviews(20)))))  # imports
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    splits = load_splits(data)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert splits.train is not None
    assert splits.train["text"][0].endswith("word ")
    assert size > 3_000_000
    assert python < 0.8 * size  # a list of all texts is more than their size
    assert pa.total_allocated_bytes() - arrow < 0.1 * size
