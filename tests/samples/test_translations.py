from __future__ import annotations

import csv
import gzip
import io
import random
import re

import pytest

from eir_seq.samples import sample_path
from eir_seq.samples.translations import (
    AND,
    COLUMNS,
    DENIAL,
    DENIAL_BEGINNING,
    JOINT,
    PAIRS,
    PAST,
    PAST_ENDING,
    Phrase,
    Word,
    as_csv,
    in_source,
    in_target,
    make_lexicon,
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress(sample_path("translations").read_bytes()).decode())))


def test_the_program_makes_the_shipped_file() -> None:
    assert as_csv() == gzip.decompress(sample_path("translations").read_bytes())
    assert sample_path("translations").stat().st_size < 200_000


def test_rows_are_complete_and_different(rows: list[dict[str, str]]) -> None:
    assert len(rows) == len({row["source"] for row in rows}) == PAIRS
    assert tuple(rows[0]) == COLUMNS
    assert all(re.fullmatch(r"[A-Z][a-z ]*[a-z]\.", row[side]) for row in rows for side in ("source", "target"))
    assert not any("  " in row[side] for row in rows for side in ("source", "target"))


def test_both_languages_say_the_same(rows: list[dict[str, str]]) -> None:
    for row in rows:
        source, target = (row[side][:-1].lower().split() for side in ("source", "target"))
        assert source.count(AND) == target.count(JOINT)
        assert source.count(PAST) == sum(word.endswith(PAST_ENDING) for word in target)
        assert source.count(DENIAL) == sum(word.startswith(DENIAL_BEGINNING) for word in target)


def test_nouns_and_what_agrees_with_them() -> None:
    noun, other = Word("bopi", "ston", "a"), Word("veri", "brek", "b")
    red = Word("sani", "dik")
    assert in_source(Phrase(noun, (red,), known=True, many=True)) == "la sani bopiri"
    assert in_target(Phrase(noun, (red,), known=True, many=True)) == "stonimeth dikor"
    assert in_target(Phrase(other, (red,), known=False, many=False)) == "brek dikilk"


def test_no_word_means_two_things() -> None:
    lexicon = make_lexicon(random.Random(1))
    words = [*lexicon.nouns, *lexicon.adjectives, *lexicon.verbs, *lexicon.places]
    for side in ("source", "target"):
        assert len({getattr(word, side) for word in words}) == len(words) == 114
