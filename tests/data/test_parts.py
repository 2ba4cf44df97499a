"""The parts of the training rows: shares, numbers of rows, lists of ids, and folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from eir_seq.data.source import load_folds, load_splits, load_test
from eir_seq.data.splits import assign_folds
from eir_seq.errors import UserError
from tests.data.conftest import Config, as_csv, reviews, write

IDS = [f"{row:03d}" for row in range(60)]


def ids_of(rows: Any) -> set[str]:
    return set(rows["id"])


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write(tmp_path / "train.csv", as_csv(reviews(40)))


def test_a_number_of_rows_is_drawn_as_a_fraction_is(config: Config, train: str) -> None:
    number = load_splits(config(train=train, validation=10, test=4))
    fraction = load_splits(config(train=train, validation=0.25, test=0.1))
    assert [rows.num_rows for _, rows in number.items()] == [26, 10, 4]
    assert number.fingerprint == fraction.fingerprint
    assert number.validation is not None
    assert sorted(number.validation["sentiment"]) == ["bad"] * 5 + ["good"] * 5


def test_a_number_of_rows_of_groups(config: Config, tmp_path: Path) -> None:
    rows = "\n".join(f"{i},text,{'ab'[i % 2]},{i // 4}" for i in range(40))
    path = write(tmp_path / "a.csv", f"id,text,sentiment,author\n{rows}\n")
    splits = load_splits(config(train=path, validation=8, group="author"))
    assert splits.validation is not None
    assert splits.validation.num_rows == 8
    with pytest.raises(UserError, match=r"data\.validation: 40 rows cannot be drawn of 40"):
        load_splits(config(train=path, validation=40, group="author"))


@pytest.mark.parametrize("form", ["txt", "csv", "parquet", "jsonl", "renamed"])
def test_a_file_of_ids(config: Config, tmp_path: Path, train: str, form: str) -> None:
    listed = ["003", "007", "011", "012"]
    data: dict[str, Any] = {}
    if form == "txt":
        path = write(tmp_path / "ids.txt", "\r\n".join([*listed, ""]))
    elif form == "csv":
        path = write(tmp_path / "ids.csv", "id\n" + "\n".join(listed))
    elif form == "jsonl":
        path = write(tmp_path / "ids.jsonl", "".join(f'{{"id": "{value}"}}\n' for value in listed))
    elif form == "renamed":
        path, data = write(tmp_path / "ids.csv", "row\n" + "\n".join(listed)), {"rename": {"row": "id"}}
    else:
        path = str(tmp_path / "ids.parquet")
        pq.write_table(pa.table({"id": listed}), path)
    splits = load_splits(config(train=train, validation=path, test=0.25, **data))
    assert splits.validation is not None
    assert splits.train is not None
    assert splits.test is not None
    assert splits.validation["id"] == listed
    assert splits.test.num_rows == 9  # a quarter of those that are left
    assert not ids_of(splits.train) & {*listed, *splits.test["id"]}


def test_row_numbers_and_texts_of_a_folder_may_be_listed(config: Config, tmp_path: Path, train: str) -> None:
    path = write(tmp_path / "numbers.txt", "1\n40\n")
    splits = load_splits(config(train=train, id=None, rename={"id": "number"}, validation=path))
    assert splits.validation is not None
    assert splits.validation["id"] == ["1", "40"]
    rows = reviews(6)
    for row_id, text, _ in rows:
        write(tmp_path / "texts" / f"{row_id}.txt", text)
    labels = write(tmp_path / "labels.csv", "id,sentiment\n" + "\n".join(f"{i},{s}" for i, _, s in rows))
    path = write(tmp_path / "ids.txt", "004\n005\n")
    splits = load_splits(config(train=str(tmp_path / "texts"), labels=labels, validation=path))
    assert splits.validation is not None
    assert splits.validation["id"] == ["004", "005"]


def test_a_text_is_rows_where_texts_are_all_that_is_read(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a story\n" * 20)
    held_out = write(tmp_path / "b.txt", "another story\n" * 4)
    splits = load_splits(
        config(train=path, id=None, validation=held_out, outputs={"words": {"type": "causal_lm", "input": "review"}})
    )
    assert splits.validation is not None
    assert splits.validation["text"][0].startswith("another story")
    with pytest.raises(UserError, match="2 rows cannot be drawn of a single text"):
        load_splits(
            config(train=path, id=None, validation=2, outputs={"words": {"type": "causal_lm", "input": "review"}})
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "0003\n",
            r"data\.validation: .*ids\.txt lists '0003', which no training row has; did you mean '003'\?",
        ),
        ("003\n003\n", r"lists '003' more than once"),
        ("\n\n", "lists no ids"),
        ("\n".join(IDS[:40]), "every row is listed in .*; none is left to train on"),
    ],
)
def test_lists_that_cannot_be_used(config: Config, tmp_path: Path, train: str, content: str, message: str) -> None:
    path = write(tmp_path / "ids.txt", content)
    with pytest.raises(UserError, match=message):
        load_splits(config(train=train, validation=path))


def test_two_lists_share_no_id(config: Config, tmp_path: Path, train: str) -> None:
    first, second = write(tmp_path / "a.txt", "001\n002\n"), write(tmp_path / "b.txt", "002\n003\n")
    with pytest.raises(UserError, match="1 ids are listed for the other part, too: '002'"):
        load_splits(config(train=train, validation=first, test=second))
    splits = load_splits(config(train=train, validation=first, test=write(tmp_path / "c.txt", "003\n")))
    assert [rows.num_rows for _, rows in splits.items()] == [37, 2, 1]


def test_listed_rows_that_are_left_out(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", as_csv([*reviews(10), ("x", "", "good")]))
    listed = write(tmp_path / "ids.txt", "001\nx\n")
    splits = load_splits(config(train=path, validation=listed, on_bad_row="skip"))
    assert splits.validation is not None
    assert splits.validation["id"] == ["001"]


def test_a_list_of_ids_is_not_predicted(config: Config, tmp_path: Path, train: str) -> None:
    path = write(tmp_path / "ids.txt", "001\n")
    with pytest.raises(UserError, match="give the file whose rows are to be predicted; the run drew its own"):
        load_test(config(train=train, test=path))


@pytest.mark.parametrize("value", [0, 1, 1.0, -3, 0.0, 2.5])
def test_numbers_that_mean_no_part(config: Config, value: float) -> None:
    with pytest.raises(ValidationError, match=r"neither a fraction of the rows, such as 0\.1, nor a number of rows"):
        config(train="a.csv", validation=value)


# ------------------------------------------------------------------------------------------------------------- folds


def test_folds_hold_out_every_row_once(config: Config, train: str) -> None:
    held_out: list[str] = []
    for fold in range(3):
        splits = load_splits(config(train=train, validation=0.2, folds=3, fold=fold))
        assert splits.test is not None
        assert splits.train is not None
        assert splits.validation is not None
        held_out += splits.test["id"]
        parts = [ids_of(rows) for _, rows in splits.items()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert sorted(held_out) == IDS[:40]
    folds = load_folds(config(train=train, folds=3))
    assert list(folds) == IDS[:40]
    assert [held_out.index(row) for row in folds] == np.argsort(
        np.argsort(list(folds.values()), kind="stable"), kind="stable"
    ).tolist()


def test_folds_depend_on_seed_and_ids_alone() -> None:
    folds = assign_folds(IDS, 5, 0)
    backwards = assign_folds(IDS[::-1], 5, 0)
    assert folds.tolist() == backwards[::-1].tolist()
    assert folds.tolist() != assign_folds(IDS, 5, 1).tolist()
    more = assign_folds([*IDS, "another"], 5, 0)
    assert (more[:60] == folds).mean() > 0.9
    assert set(np.bincount(folds)) == {12}


def test_folds_keep_the_shares_of_classes() -> None:
    classes = ["a"] * 33 + ["b"] * 20 + ["c"] * 7
    folds = assign_folds(IDS, 5, 0, classes)
    assert set(np.bincount(folds)) == {12}
    for name in "abc":
        counts = np.bincount(folds[np.array(classes) == name], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_folds_of_groups() -> None:
    groups = [f"g{row // 3}" for row in range(60)]
    classes = ["ab"[(row // 3) % 4 == 0] for row in range(60)]
    folds = assign_folds(IDS, 5, 0, classes, groups)
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))
    assert set(np.bincount(folds)) == {12}
    assert set(np.bincount(folds[np.array(classes) == "b"], minlength=5)) == {3}
    # one group larger than a fold, and as many folds as groups
    assert sorted(np.bincount(assign_folds(IDS, 3, 0, None, ["x"] * 40 + ["y"] * 19 + ["z"]))) == [1, 19, 40]


@pytest.mark.parametrize(
    ("folds", "classes", "groups", "message"),
    [
        (61, None, None, r"data\.folds: 61 folds of 60 rows"),
        (5, ["a"] * 57 + ["rare"] * 3, None, r"class 'rare' has 3 rows for 5 folds"),
        (5, None, ["x"] * 20 + ["y"] * 40, r"5 folds of 2 groups"),
    ],
)
def test_more_folds_than_there_are(
    folds: int, classes: list[str] | None, groups: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        assign_folds(IDS, folds, 0, classes, groups)
