"""Increasing whole numbers, such as the lines of rows, of which most follow each other."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import eq
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray


class Increasing(Sequence[int]):
    """Increasing numbers, held as runs of consecutive ones: 16 bytes for each run.

    >>> lines = Increasing([2, 3, 4, 7])
    >>> lines[1], lines[-1], len(lines), lines == [2, 3, 4, 7]
    (3, 7, 4, True)
    """

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._places, self._firsts = array("q"), array("q")
        self._size, self._next = 0, -1
        for number in numbers:
            self.append(number)

    @classmethod
    def where(cls, mask: NDArray[np.bool_]) -> Self:
        """The places where a mask is true.

        >>> [*Increasing.where(np.array([False, True, True, False, True]))]
        [1, 2, 4]
        """
        found = cls()
        edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
        bounds = [0, *edges.tolist(), len(mask)]
        for start, stop in pairwise(bounds):
            if start < stop and mask[start]:
                found._places.append(found._size)
                found._firsts.append(start)
                found._size += stop - start
                found._next = stop
        return found

    def append(self, number: int) -> None:
        """Add a number that is larger than the last."""
        if number != self._next:
            self._places.append(self._size)
            self._firsts.append(number)
        self._size += 1
        self._next = number + 1

    def numbers(self) -> NDArray[np.int64]:
        """All of them, ``(numbers,)``."""
        places = np.array(self._places)
        sizes = np.diff(np.append(places, self._size))
        return np.repeat(np.array(self._firsts) - places, sizes) + np.arange(self._size)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> list[int]: ...
    def __getitem__(self, key: int | slice) -> int | list[int]:
        if isinstance(key, slice):
            return [self[place] for place in range(self._size)[key]]
        place = range(self._size)[key]
        run = bisect_right(self._places, place) - 1
        return self._firsts[run] + place - self._places[run]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]
