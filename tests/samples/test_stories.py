from __future__ import annotations

import csv
import gzip
import io
import re

import pytest

from eir_seq.samples import sample_path
from eir_seq.samples.stories import COLUMNS, STORIES, as_csv
from eir_seq.samples.story_rules import GIFTS, NAMES, WISHES


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress(sample_path("stories").read_bytes()).decode())))


def test_the_program_makes_the_shipped_file() -> None:
    assert as_csv() == gzip.decompress(sample_path("stories").read_bytes())
    assert sample_path("stories").stat().st_size < 300_000


def test_rows_are_complete_and_different(rows: list[dict[str, str]]) -> None:
    assert len(rows) == STORIES
    assert tuple(rows[0]) == COLUMNS
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == STORIES
    assert not re.search(r"[{}]|\s\s|\ba [aeiou]", " ".join(row["text"].replace("\n", "|") for row in rows))


def test_what_stories_begin_with_they_end_with(rows: list[dict[str, str]]) -> None:
    names = {name: pronoun for pronoun, own in NAMES.items() for name in own}
    for text in (row["text"] for row in rows):
        (hero,) = {name for name in names if re.search(rf"\b{name}\b", text)}
        other = {"she": r"\b(he|him|his)\b", "he": r"\b(she|her)\b"}[names[hero]]
        assert not re.search(other, text, re.IGNORECASE), text
        (lost,) = [wish for wish in WISHES.values() if wish[0] in text]
        assert text.count(lost[0]) + text.count(lost[0].capitalize()) >= 2
        assert lost[2] in text
        assert lost[1] in text
        for name, (gift, used, obstacles) in GIFTS.items():
            assert (gift in text) == (used in text) == any(re.search(rf"\b{o}\b", text) for o in obstacles), name


def test_summaries_say_what_happens(rows: list[dict[str, str]]) -> None:
    for row in rows:
        found = re.fullmatch(r"(\w+) brings back (.*?)\. (He|She) gets (.*)\.", row["summary"])
        assert found is not None, row["summary"]
        assert all(part in row["text"] or part.capitalize() in row["text"] for part in found.group(1, 2))
        places = []
        for step in found[4].split(" and "):
            obstacle, gift, helper = re.fullmatch(r"past an? (.*) with the (\w+) of the (\w+)", step).groups()  # type: ignore[union-attr]
            assert obstacle in GIFTS[gift][2]
            assert helper in row["text"]
            places.append(row["text"].index(GIFTS[gift][1]))
        assert places == sorted(places)
