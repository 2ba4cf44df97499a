"""Values that are the same but for how they are written."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence

SHOWN = 5
"""Groups of values that warnings name; the rest is counted."""


def _number(text: str) -> str:
    """Numbers in one form: "1", "1.0" and "01" are the same; long ones are rather codes."""
    try:
        number = float(text) if len(text) <= 15 and "_" not in text else math.nan
    except ValueError:
        return text
    return repr(number) if math.isfinite(number) else text


_RULES: dict[str, Callable[[str], str]] = {
    "spaces": lambda value: " ".join(value.split()),
    "upper and lower case": str.casefold,
    "how the number is written": _number,
    "Unicode form": lambda value: unicodedata.normalize("NFKC", value),
}


def similar_spellings(counts: Mapping[str, int]) -> list[tuple[list[str], str]]:
    """Groups of values that differ by spaces, case, the form of a number or of Unicode alone, and by which of them.

    >>> similar_spellings({"neg": 24, "pos": 30, "neg ": 6})
    [(['neg', 'neg '], 'spaces')]
    """
    groups: dict[str, list[str]] = {}
    for value in counts:
        key = value
        for rule in reversed(_RULES.values()):
            key = rule(key)
        groups.setdefault(key, []).append(value)
    return [(values, _reason(values)) for values in groups.values() if len(values) > 1]


def _reason(values: Sequence[str]) -> str:
    return next((name for name, rule in _RULES.items() if len(set(map(rule, values))) == 1), "spelling")


def spelling_warnings(counts: Mapping[str, int], column: str, place: str, unit: str, kind: str) -> list[str]:
    """A line for each group of classes that look like one, `counts` by class; `unit` is what they count."""
    groups = similar_spellings(counts)
    lines = []
    for values, reason in groups[:SHOWN]:
        listed = [f"{value!r} ({counts[value]:,} {unit})" for value in values]
        alike = ", ".join(listed[:-1]) + f" and {listed[-1]}"
        lines.append(f"{place}: {alike} of {column!r} differ only in {reason}; each is a separate {kind}")
    if len(groups) > SHOWN:
        lines.append(f"{place}: {len(groups) - SHOWN} more groups of values of {column!r} are spelled alike")
    return lines


def same_but_for_spelling(left: Sequence[str], right: Sequence[str]) -> str:
    """A hint where ids of two files match once spaces, case or leading zeros are ignored; otherwise empty."""
    rules: dict[str, Callable[[str], str]] = {
        "spaces": str.strip,
        "upper and lower case": str.casefold,
        "leading zeros": lambda value: value.strip().lstrip("0"),
        "a file suffix": lambda value: value.rsplit(".", 1)[0],
    }
    for name, rule in rules.items():
        if {rule(value) for value in left} & {rule(value) for value in right}:
            return f"; they differ by {name}"
    return ""
