"""Texts that the tokenizer tests train and compare on."""

from __future__ import annotations

import csv
import gzip
import os
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from eir_seq.samples import sample_path

TEXTS = Path(__file__).resolve().parents[1] / "data" / "texts"
MORE_TEXTS = "EIR_SEQ_TEST_TEXTS"

OWN = [
    "",
    " ",
    "   leading and trailing   ",
    "two  spaces,\ttabs\tand\nnew\r\nlines",
    "The quick brown fox jumps over the lazy dog.",
    "isn't it? they'll say: it's 3.14, or 9,9 and 1,234,567!",
    "``quoted'' text -- with \"all\" kinds of 'quotes' \u2018\u2019\u201c\u201d\u2026",
    "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m A\u030angstro\u0308m \u1e9b\u0323 \ufb01ligree "
    "\u00bd \u2460 \uff21\uff22",
    "\u00dcBER STRASSE stra\u00dfe \u0130stanbul \u0131 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f"
    "\u0394\u039f\u03a3",
    "emoji \U0001f600\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
    "\U0001f1e9\U0001f1ea \u2764\ufe0f end",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644"
    "\u0639\u0627\u0644\u0645 \u202eoverride\u202c \u05d0\u05b0\u05d1\u05b7\u05bc",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u6771\u4eac\u90fd \u3053\u3093\u306b\u3061\u306f \uc548\ub155"
    "\ud558\uc138\uc694 \u3000 wide",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u12a0\u121b\u122d\u129b",
    "soft\u00adhyphen zero\u200bwidth no\u00a0break line\u2028sep bom\ufeff",
    "a\u2581b \u2581 \u2581\u2581c",
    "x" * 300,
    "http://example.org/a_b?c=d&e=%20#f user@example.org #tag",
]
CONTROL = ["nul\x00 bell\x07 esc\x1b[0m del\x7f unit\x1f", "\x00", "\x85\x1c a", "\ufffd replacement"]


@cache
def lines() -> list[str]:
    """Real sentences in many languages, and made-up stories and reviews that ship with the package."""
    languages = (TEXTS / "languages.txt").read_text("utf-8").splitlines()
    return [text for pair in pairs() for text in pair] + languages + _sample("stories", 120) + _sample("reviews", 60)


@cache
def pairs() -> list[tuple[str, str]]:
    """Real sentences in English and German."""
    rows = (line.split("\t") for line in (TEXTS / "pairs.tsv").read_text("utf-8").splitlines())
    return [(english, german) for english, german in rows]


def _sample(name: str, rows: int) -> list[str]:
    """The lines of the first texts of a sample."""
    with gzip.open(sample_path(name), "rt", encoding="utf-8", newline="") as handle:
        return [line for row in islice(csv.DictReader(handle), rows) for line in row["text"].splitlines()]


def more_lines() -> list[str]:
    """The lines of the text files in the folder that `EIR_SEQ_TEST_TEXTS` names; skips the test where it names none."""
    if (folder := os.environ.get(MORE_TEXTS)) is None:
        pytest.skip(f"a comparison on more texts: set {MORE_TEXTS} to a folder of text files (*.txt, *.csv, *.tsv)")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".txt", ".csv", ".tsv"))
    found = [line for path in paths for line in path.read_text("utf-8", errors="replace").splitlines()]
    assert found, f"no text in {folder}"
    return found


GENERATED = [
    f"{subject} {verb} {thing} {end}"
    for subject in ("The film", "An actor", "Her story", "Zwei M\u00e4nner", "Nobody")
    for verb in ("loves", "didn't like", "remembers", "gehen auf", "wins")
    for thing in ("the old house", "2,500 dollars,", "eine gro\u00dfe Stra\u00dfe", "a bad ending", "music")
    for end in ("twice.", "in 1999!", "(again)", "?", "")
]
