from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.data import splits
from eir_seq.data.loaded import Splits
from eir_seq.data.source import load_splits, load_test
from eir_seq.data.splits import draw_groups, draw_rows, pick_rows
from eir_seq.errors import UserError
from tests.data.conftest import Config, as_csv, reviews, write

IDS = [f"r{i}" for i in range(200)]


def test_a_draw_is_stratified_and_has_the_asked_size() -> None:
    classes = ["a"] * 120 + ["b"] * 70 + ["c"] * 10
    drawn = draw_rows(IDS, 0.1, 0, classes)
    assert drawn.sum() == 20
    assert Counter(np.asarray(classes)[drawn]) == {"a": 12, "b": 7, "c": 1}


def test_a_draw_depends_on_ids_and_seed_only() -> None:
    drawn = {row_id for row_id, taken in zip(IDS, draw_rows(IDS, 0.25, 7), strict=True) if taken}
    reverse = IDS[::-1]
    assert drawn == {row_id for row_id, taken in zip(reverse, draw_rows(reverse, 0.25, 7), strict=True) if taken}
    other = {row_id for row_id, taken in zip(IDS, draw_rows(IDS, 0.25, 8), strict=True) if taken}
    assert len(drawn & other) < 30


@given(
    st.lists(st.sampled_from("abc"), min_size=8, max_size=60).filter(lambda c: min(Counter(c).values()) > 1),
    st.sampled_from([0.1, 0.3, 0.5, 0.9]),
)
def test_every_class_stays_in_training(classes: list[str], fraction: float) -> None:
    drawn = draw_rows([str(i) for i in range(len(classes))], fraction, 1, classes)
    assert set(np.asarray(classes)[~drawn]) == set(classes)
    assert drawn.sum() == min(round(fraction * len(classes)), len(classes) - len(set(classes)))


def test_many_classes_are_drawn_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    classes = [f"c{number}" for number in draw.integers(0, 40, 3000)]
    ids = [str(number) for number in draw.integers(0, 900, 3000)]  # equal ids draw equal lots
    by_sorting = pick_rows(ids, 600, 1, classes)
    monkeypatch.setattr(splits, "MANY_CLASSES", 40)
    np.testing.assert_array_equal(pick_rows(ids, 600, 1, classes), by_sorting)


def test_classes_of_a_single_row_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.stratify: class 'b' has a single row \('r3'\), which cannot"):
        draw_rows(IDS[:5], 0.4, 0, ["a", "a", "a", "b", "a"])


@pytest.mark.parametrize(("fraction", "part"), [(0.01, "no row"), (0.99, "every row")])
def test_empty_parts_are_refused(fraction: float, part: str) -> None:
    with pytest.raises(UserError, match=f"data.validation: {fraction} of 10 rows is {part}"):
        draw_rows(IDS[:10], fraction, 0)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=80), st.sampled_from([0.1, 0.3, 0.6]))
def test_groups_stay_together(rows: list[tuple[int, bool]], fraction: float) -> None:
    groups = [str(group) for group, _ in rows]
    classes = [str(label) for _, label in rows]
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="all rows belong to one group"):
            draw_groups(groups, fraction, 0, classes)
        return
    drawn = draw_groups(groups, fraction, 0, classes)
    inside, outside = set(np.asarray(groups)[drawn]), set(np.asarray(groups)[~drawn])
    assert not inside & outside
    assert inside
    assert outside


def test_groups_approach_the_fraction_and_the_classes() -> None:
    draw = np.random.default_rng(0)
    groups = [f"g{i}" for i in draw.integers(0, 100, 2000)]
    classes = np.where(draw.random(2000) < 0.3, "rare", "common")
    drawn = draw_groups(groups, 0.2, 0, list(classes))
    assert abs(drawn.mean() - 0.2) < 0.02
    assert abs((classes[drawn] == "rare").mean() - 0.3) < 0.05


def test_groups_and_strata_from_the_config(config: Config, tmp_path: Path) -> None:
    rows = [(*row, f"author {i % 10}") for i, row in enumerate(reviews(60))]
    path = write(tmp_path / "a.csv", as_csv(rows, header="id,text,sentiment,author"))
    splits = load_splits(config(train=path, validation=0.2, group="author"))
    assert splits.train is not None
    assert splits.validation is not None
    author = {row[0]: row[3] for row in rows}
    apart = {author[i] for i in splits.train["id"]} & {author[i] for i in splits.validation["id"]}
    assert not apart
    assert splits.validation.num_rows == 12
    assert splits.train.column_names == ["id", "text", "sentiment"]


# ----------------------------------------------------------------------------------------- validation and test drawn


def ids(splits: Splits) -> dict[str, set[str]]:
    return {name: set(rows["id"]) for name, rows in splits.items()}


def test_a_test_part_is_drawn_beside_the_validation_part(config: Config, tmp_path: Path) -> None:
    rows = reviews(200, classes=("bad", "bad", "bad", "good"))
    train = write(tmp_path / "a.csv", as_csv(rows))
    splits = load_splits(config(train=train, validation=0.1, test=0.15))
    parts = ids(splits)
    assert {name: len(part) for name, part in parts.items()} == {"train": 150, "validation": 20, "test": 30}
    assert set.union(*parts.values()) == {row[0] for row in rows}
    assert [Counter(part["sentiment"])["good"] for _, part in splits.items()] == [37, 5, 8]
    assert splits.describe()["rows"] == {"train": 150, "validation": 20, "test": 30}
    again = config(train=write(tmp_path / "b.csv", as_csv(rows[::-1])), validation=0.1, test=0.15)
    assert ids(load_splits(again)) == parts
    # the validation rows are those of a run without a test part, and another seed draws others
    assert ids(load_splits(config(train=train, validation=0.1)))["validation"] == parts["validation"]
    assert (
        len(ids(load_splits(config(train=train, validation=0.1, test=0.15, split_seed=1)))["test"] & parts["test"]) < 15
    )


def test_a_test_part_is_drawn_beside_a_validation_file(config: Config, tmp_path: Path) -> None:
    validation = write(tmp_path / "v.csv", as_csv(reviews(4, first=500)))
    for source, size in ((validation, 4), (None, 0)):
        splits = load_splits(config(train=write(tmp_path / "a.csv", as_csv(reviews(20))), validation=source, test=0.25))
        found = {name: len(part) for name, part in ids(splits).items()}
        assert found == {"train": 15, "test": 5, **({"validation": size} if size else {})}


def test_groups_stay_together_in_three_parts(config: Config, tmp_path: Path) -> None:
    rows = [(f"{i}", f"text {i}", "bad" if i % 2 else "good", f"g{i // 10}") for i in range(200)]
    content = "id,text,sentiment,author\n" + "".join(",".join(row) + "\n" for row in rows)
    splits = load_splits(config(train=write(tmp_path / "a.csv", content), validation=0.1, test=0.2, group="author"))
    parts = ids(splits)
    assert {name: len(part) for name, part in parts.items()} == {"train": 140, "validation": 20, "test": 40}
    groups = [{int(row) // 10 for row in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_a_class_of_two_rows_is_in_two_of_three_parts(config: Config, tmp_path: Path) -> None:
    rows = [*reviews(40), ("x", "rare text", "rare"), ("y", "rare text", "rare")]
    splits = load_splits(config(train=write(tmp_path / "a.csv", as_csv(rows)), validation=0.4, test=0.4))
    assert splits.train is not None
    assert "rare" in set(splits.train["sentiment"])


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        (
            (0.5, 0.5),
            r"^data\.test: 0\.5 \(validation\) and 0\.5 \(test\) of the training rows leave none to train on$",
        ),
        ((0.1, 0.01), r"^data\.test: 0\.01 of 20 rows is no row; give it a file or more rows$"),
        ((None, 0.99), r"^data\.test: 0\.99 of 20 rows is every row; give"),
    ],
)
def test_parts_that_cannot_be_drawn(
    config: Config, tmp_path: Path, fractions: tuple[float | None, float], message: str
) -> None:
    train = write(tmp_path / "a.csv", as_csv(reviews(20)))
    with pytest.raises(UserError, match=message):
        load_splits(config(train=train, validation=fractions[0], test=fractions[1]))


def test_a_text_is_cut_into_three_parts(config: Config, tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(1000))
    inputs = {"text": {"column": "text", "model": {"model_type": "gpt2"}}}
    outputs = {"text": {"type": "causal_lm"}}
    path = write(tmp_path / "a.txt", text)
    splits = load_splits(config(train=path, id=None, validation=0.1, test=0.2, inputs=inputs, outputs=outputs))
    parts = {name: rows["text"][0] for name, rows in splits.items()}
    assert parts["train"] + parts["validation"] + parts["test"] == text
    assert len(parts["validation"]) == pytest.approx(0.1 * len(text), abs=20)
    assert len(parts["test"]) == pytest.approx(0.2 * len(text), abs=20)


def test_a_test_part_that_was_drawn_is_no_file_to_predict(config: Config, tmp_path: Path) -> None:
    drawn = config(train=write(tmp_path / "a.csv", as_csv(reviews(20))), test=0.2)
    with pytest.raises(
        UserError, match=r"^data\.test: give the file whose rows are to be predicted; the run drew its own"
    ):
        load_test(drawn)
