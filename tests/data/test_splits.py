from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.data.source import load_splits
from eir_seq.data.splits import draw_groups, draw_rows
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
