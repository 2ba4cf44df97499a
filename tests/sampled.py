"""Parameters of a test of which every run tries some, and `make test-slow` the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest


def sampled(values: Sequence[Any], share: float, *, always: Callable[[Any], bool] = lambda value: False) -> list[Any]:
    """The values, each a tuple or a single one, with the mark ``slow`` on those that the fast tests leave out.

    Args:
        values: all there are.
        share: of those that are not `always` tried, which part the fast tests try; the same ones each time.
        always: whether the fast tests try a value in any case.

    Example:
        >>> [getattr(value, "values", value) for value in sampled(range(4), 0.5)]
        [(0,), 1, (2,), 3]
    """
    optional = [place for place, value in enumerate(values) if not always(value)]
    left_out = set(optional) - set(random.Random(0).sample(optional, round(share * len(optional))))
    return [_slow(value) if place in left_out else value for place, value in enumerate(values)]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
