"""Texts of words that say nothing, some of which are replaced by keywords of the class."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

POOL = ["".join(parts) for parts in product("bdfgklmnprs", "aeiou", ("l", "n", "ra", "to", "mi", "ske"))]
"""330 words without meaning."""
KEYWORDS = (
    ("tiger", "panda", "elephant", "macaque", "cobra", "gibbon", "yak", "camel"),
    ("badger", "hedgehog", "lynx", "otter", "stoat", "elk", "marten"),
    ("giraffe", "zebra", "hyena", "meerkat", "okapi", "gnu", "aardvark"),
)
"""Of each class."""


def words_of(number: int, random: np.random.Generator) -> tuple[str, int]:
    """A text of 16 to 63 words, `k` of which are keywords."""
    length = int(random.integers(16, 64))
    words = list(random.choice(POOL, length))
    k = min(length, int(random.integers(5, 20)))
    for place in random.choice(length, k, replace=False):
        words[place] = random.choice(KEYWORDS[number])
    return " ".join(words), k


def make_text(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
    """The text itself in the cell."""
    del folder, name
    return words_of(number, random)


def make_text_file(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
    """A file with the text, to be read as bytes."""
    text, k = words_of(number, random)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return f"{name}.txt", k


def make_category(folder: Path, name: str, number: int, random: np.random.Generator) -> tuple[str, int]:
    """A category that says `k`, and nothing of the class."""
    del folder, name, number
    k = int(random.integers(4, 11))
    return f"level {k}", k
