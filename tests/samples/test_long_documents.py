from __future__ import annotations

import csv
import gzip
import io
import itertools
import random
from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eir_seq.samples import sample_path
from eir_seq.samples.long_documents import (
    APART,
    COLUMNS,
    DOCUMENTS,
    MARGIN,
    PASSAGE,
    THINGS,
    Paragraphs,
    as_csv,
    count_tokens,
    write_document,
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress(sample_path("long_documents").read_bytes()).decode())))


def test_the_program_makes_the_shipped_file() -> None:
    assert as_csv() == gzip.decompress(sample_path("long_documents").read_bytes())
    assert sample_path("long_documents").stat().st_size < 350_000


def test_rows_are_complete_and_different(rows: list[dict[str, str]]) -> None:
    assert len(rows) == DOCUMENTS
    assert tuple(rows[0]) == COLUMNS
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == DOCUMENTS


def test_passages_are_where_they_should_be(rows: list[dict[str, str]]) -> None:
    for row in rows:
        before, hidden, between, found, behind = _cut(row["text"])
        assert count_tokens(between) >= APART
        assert min(count_tokens(before), count_tokens(behind)) >= MARGIN
        assert hidden.count(f"hid the {row['hidden']}") == 4 * PASSAGE
        assert found.count(f"found the {row['found']}") == 4 * PASSAGE
        assert row["same"] == ("yes" if row["hidden"] == row["found"] else "no")
        assert "captain" not in before + between + behind


def test_neither_passage_tells_the_label(rows: list[dict[str, str]]) -> None:
    """Each thing is equally often the same and another, whichever of the passages names it."""
    for passage in ("hidden", "found"):
        counts = Counter((row[passage], row["same"]) for row in rows)
        assert counts == {(thing, same): DOCUMENTS // 4 for thing in THINGS for same in ("yes", "no")}


def test_nothing_else_depends_on_the_things() -> None:
    """So what stands around the passages tells nothing, either."""

    def write(hidden: str, found: str) -> list[str]:
        draw = random.Random(3)
        return _cut(write_document(Paragraphs.make(draw), hidden, found, draw))

    one = write(*THINGS)
    for hidden in THINGS:
        for found in THINGS:
            other = write(hidden, found)
            assert other[::2] == one[::2]
            assert other[1] == one[1].replace(THINGS[0], hidden)
            assert other[3] == one[3].replace(THINGS[1], found)


def test_counting_words_does_not_tell_the_label(rows: list[dict[str, str]]) -> None:
    counts = CountVectorizer().fit_transform([row["text"] for row in rows[:400]])
    model = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(C=0.1, max_iter=1000))
    assert 0.4 < cross_val_score(model, counts, [row["same"] for row in rows[:400]], cv=5).mean() < 0.6


def _cut(text: str) -> list[str]:
    """What stands before, in, between, in and behind the passages."""
    paragraphs = text.split("\n")
    first, last = (next(i for i, p in enumerate(paragraphs) if f"captain {verb}" in p) for verb in ("hid", "found"))
    cuts = [0, first, first + PASSAGE, last, last + PASSAGE, len(paragraphs)]
    return ["\n".join(paragraphs[start:stop]) for start, stop in itertools.pairwise(cuts)]
