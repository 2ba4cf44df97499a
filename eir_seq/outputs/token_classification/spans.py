"""Entities in a row of tags (BIO and similar schemes), and how many of them were found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_TAG = re.compile(r"([BIELSU])-(.+)")
_SAME = {"L": "E", "U": "S"}
OUTSIDE = "O"

Span = tuple[str, int, int]
"""Type, first word, and the word after the last."""


def are_entity_tags(tags: Sequence[str]) -> bool:
    """Whether all tags are O, or a type after B-, I-, E- (L-) or S- (U-); O and another at least."""
    return OUTSIDE in tags and len(tags) > 1 and all(tag == OUTSIDE or _TAG.fullmatch(tag) for tag in tags)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The entities of a sentence as the CoNLL evaluation script counts them (Tjong Kim Sang & De Meulder 2003).

    An entity begins at B or S, at I or E after another entity's end, and wherever the type changes; so also an I
    without its B begins one. Words without a tag ("") are outside.
    """
    found: list[Span] = []
    begin, before, kind_before = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        match = _TAG.fullmatch(tag)
        prefix, kind = (_SAME.get(match[1], match[1]), match[2]) if match else (OUTSIDE, "")
        changed = kind != kind_before
        if before != OUTSIDE and (before in "ES" or prefix in "BSO" or changed):
            found.append((kind_before, begin, place))
        if prefix != OUTSIDE and (prefix in "BS" or before in "ESO" or changed):
            begin = place
        before, kind_before = prefix, kind
    return found


def entity_scores(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of whole entities over all sentences, and F1 of each type.

    An entity is found where type, begin and end agree. Precision, recall and F1 are 0 where nothing is predicted or
    nothing is there to be found.
    """
    wanted = Counter((row, *span) for row, tags in enumerate(true) for span in spans_of(tags))
    given = Counter((row, *span) for row, tags in enumerate(predicted) for span in spans_of(tags))
    hits = wanted & given

    def f1(kind: str | None) -> tuple[float, float, float]:
        counts = (sum(n for span, n in spans.items() if kind in (None, span[1])) for spans in (hits, given, wanted))
        hit, guessed, there = counts
        return hit / max(guessed, 1), hit / max(there, 1), 2 * hit / max(guessed + there, 1)

    precision, recall, total = f1(None)
    values = {"entity_f1": total, "entity_precision": precision, "entity_recall": recall}
    return values | {f"entity_f1({kind})": f1(kind)[2] for kind in sorted({span[1] for span in wanted})}
