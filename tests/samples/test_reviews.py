from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from eir_seq.errors import UserError
from eir_seq.samples import reviews, sample_path
from eir_seq.samples.reviews import COLUMNS, LONGEST, ROWS, SHORTEST, as_csv


def shipped(name: str) -> bytes:
    return gzip.decompress(sample_path(name).read_bytes())


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(shipped(name).decode())))


@pytest.mark.parametrize("name", ROWS)
def test_the_program_makes_the_shipped_file(name: str) -> None:
    assert as_csv(name) == shipped(name)
    assert sample_path(name).stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_complete_balanced_and_different(name: str) -> None:
    table = rows(name)
    assert len(table) == ROWS[name]
    assert tuple(table[0]) == COLUMNS
    assert [row["sentiment"] for row in table].count("positive") == ROWS[name] // 2
    assert len({row["id"] for row in table}) == len({row["text"] for row in table}) == ROWS[name]
    lengths = sorted(len(row["text"].split()) for row in table)
    assert lengths[0] >= SHORTEST
    assert lengths[-1] <= LONGEST
    assert lengths[len(lengths) // 4] < 60
    assert lengths[-len(lengths) // 10] > 250


def test_the_samples_share_no_text_and_no_id() -> None:
    for column in ("id", "text"):
        assert not {row[column] for row in rows("reviews")} & {row[column] for row in rows("reviews_test")}


def test_single_words_do_not_tell_the_label_but_their_order_does() -> None:
    train, test = rows("reviews"), rows("reviews_test")

    def accuracy(longest: int) -> float:
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True, min_df=2),
            LogisticRegression(C=10, max_iter=500),
        )
        model.fit([row["text"] for row in train], [row["sentiment"] for row in train])
        return float(model.score([row["text"] for row in test], [row["sentiment"] for row in test]))

    assert accuracy(longest=1) < 0.8
    assert accuracy(longest=2) > 0.9


def test_an_unknown_sample_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'reviews'"):
        sample_path("review")


def test_a_folder_that_is_not_there_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "as_csv", lambda name: name.encode())
    monkeypatch.setattr(sys, "argv", ["reviews", str(tmp_path / "a/b")])
    reviews.main()
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == {"reviews.csv.gz", "reviews_test.csv.gz"}
