"""Names of classes, as cells hold them, and of metrics of decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECISION_METRICS = ("accuracy", "balanced_accuracy", "f1", "mcc")
"""Metrics of decisions by which thresholds can be chosen; `f1` of classes also as ``f1(CLASS)``."""


def class_name(value: Any) -> str:
    """The name of the class that a cell holds; whole floats lose their point, as readers add it to integer columns."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_codes(values: Sequence[Any], index: Mapping[str, int]) -> NDArray[np.int64]:
    """The number of the class of each cell, (cells,); -1 for one that is not in `index`.

    >>> class_codes(["a", 1.0, "b"], {"a": 0, "1": 1}).tolist()
    [0, 1, -1]
    """
    return np.fromiter((index.get(class_name(value), -1) for value in values), np.int64, len(values))


def sorted_classes(names: Any) -> list[str]:
    """Class names in order: by value where all are numbers, else by code point."""
    names = list(names)
    numbers = {name: number_of(name) for name in names}
    if all(number is not None for number in numbers.values()):
        return sorted(names, key=lambda name: (numbers[name], name))
    return sorted(names)


def number_of(text: str) -> float | None:
    """The finite number that a text says; None if it says none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def listed(names: Sequence[str], shown: int = 8) -> str:
    """Some names for a message.

    >>> listed(["a", "b", "c"], shown=2)
    "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more


def threshold_metric(name: str) -> tuple[str, str | None] | None:
    """The metric and the class that ``f1`` or ``f1(CLASS)`` name; None if it is not one of `DECISION_METRICS`.

    Example:
        >>> threshold_metric("f1(spam)"), threshold_metric("mcc"), threshold_metric("auroc")
        (('f1', 'spam'), ('mcc', None), None)
    """
    if name.startswith("f1(") and name.endswith(")"):
        return "f1", name[3:-1]
    return (name, None) if name in DECISION_METRICS else None
