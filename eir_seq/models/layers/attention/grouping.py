"""Which texts, or pieces of texts, share a call of attention.

A call costs as much as some ten thousand pairs of tokens, a text of 50 tokens has less than that. So texts of similar
length are padded to the longest of a group where the padding costs less than the calls do, and texts with a sliding
window are cut into pieces, nearly all of which are alike. Lengths alone decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CALL = 2**15
"""Pairs (times heads) that take as long as a call."""
APART = 32
"""Texts of a group at most, so that a plan takes linear time."""
SMALLEST_PIECE, LARGEST_PIECE = 32, 128
"""Queries of a piece of a text with a window; half of what they see, between these."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """A rectangle of attention.

    `shape`: texts or pieces, their queries and keys. `mask`: float32, added to scores, broadcastable to (texts, 1,
    queries, keys), if anything is hidden. `causal`: besides, each query sees the keys up to its own place.
    """

    shape: tuple[int, int, int]
    mask: Tensor | None = None
    causal: bool = False


@dataclass(frozen=True)
class Plan:
    """How packed texts are laid out in rectangles, one after the other.

    `queries`, `keys`: the tokens of all rectangles; None: as they are. `back`: (tokens,) where their queries are there.
    """

    groups: tuple[Group, ...]
    queries: Tensor | None = None
    keys: Tensor | None = None
    back: Tensor | None = None

    def rectangles(self, query: Tensor, key: Tensor, value: Tensor) -> Iterator[list[Tensor]]:
        """(rows, heads, head_size) of all rectangles -> those of each (texts, length, heads, head_size)."""
        for x, axis in ((query, 1), (key, 2), (value, 2)):
            shapes = [(group.shape[0], group.shape[axis]) for group in self.groups]
            parts = x.split([count * length for count, length in shapes]) if len(shapes) > 1 else [x]
            yield [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


@lru_cache(maxsize=32)
def planned(
    queries: tuple[int, ...], keys: tuple[int, ...], heads: int, causal: bool, window: int | None, padded: bool = True
) -> Plan:
    """The rectangles for texts of these lengths; see `packed_attention`.

    Args:
        padded: whether texts of unequal length may share one where a mask would hide the padding.
    """
    lengths, sources = np.array(queries), np.array(keys)
    long = lengths > window if window is not None else np.zeros(len(lengths), dtype=bool)
    if not long.any() and _equal(queries) and _equal(keys):
        return Plan((Group((len(queries), queries[0], keys[0]), causal=causal),))
    starts, places = (np.concatenate(([0], np.cumsum(x)[:-1])) for x in (lengths, sources))
    rectangles = _Rectangles()
    texts = np.flatnonzero(~long & (lengths > 0))
    order = texts[np.lexsort((sources[texts], lengths[texts]))]
    for members in _partition(lengths[order], sources[order], heads, padded or causal):
        own = order[members]
        shape = len(own), int(lengths[own].max()), int(sources[own].max())
        hidden = None if causal else _beyond(np.zeros_like(own), sources[own], shape[2])
        bounds = places[own], places[own] + sources[own]
        rectangles.add(starts[own], lengths[own], places[own], bounds, Group(shape, hidden, causal))
    if long.any():
        assert window is not None
        _add_pieces(rectangles, starts[long], lengths[long], heads, causal, window)
    return rectangles.plan(int(lengths.sum()))


def _equal(lengths: Sequence[int]) -> bool:
    return len(set(lengths)) == 1 and lengths[0] > 0


class _Rectangles:
    """Collects groups and where their tokens are."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.queries: list[Integers] = []
        self.keys: list[Integers] = []
        self.rows: list[Integers] = []
        self.tokens: list[Integers] = []
        self.height = 0

    def add(
        self, starts: Integers, lengths: Integers, first: Integers, bounds: tuple[Integers, Integers], group: Group
    ) -> None:
        """Texts whose queries begin at `starts`, keys at `first`; those out of `bounds`, from and to, are padding."""
        count, height, width = group.shape
        places = np.arange(height)
        self.queries.append((starts[:, None] + np.minimum(places, lengths[:, None] - 1)).ravel())
        low, high = (x[:, None] for x in bounds)
        self.keys.append((first[:, None] + np.arange(width)).clip(low, high - 1).ravel())
        real = np.broadcast_to(places < lengths[:, None], (count, height)).ravel()
        self.rows.append(self.height + np.flatnonzero(real))
        self.tokens.append(self.queries[-1][real])
        self.groups.append(group)
        self.height += count * height

    def plan(self, tokens: int) -> Plan:
        """The plan for that many tokens."""
        back = np.empty(tokens, dtype=np.int64)
        back[np.concatenate(self.tokens)] = np.concatenate(self.rows)
        parts = (np.concatenate(x) for x in (self.queries, self.keys))
        return Plan(tuple(self.groups), *(torch.from_numpy(x) for x in (*parts, back)))


def _partition(lengths: Integers, sources: Integers, heads: int, padded: bool = True) -> list[slice]:
    """Slices of texts in ascending order of length: those that cost least together."""
    count = len(lengths)
    cost, previous = [0.0] + [float("inf")] * count, [0] * (count + 1)
    rows, columns = lengths.tolist(), sources.tolist()
    for end in range(1, count + 1):
        widest = 0
        for start in range(end - 1, max(-1, end - 1 - APART), -1):
            widest = max(widest, columns[start])
            if not padded and (rows[start] != rows[end - 1] or columns[start] != widest):
                break
            whole = cost[start] + CALL + (end - start) * rows[end - 1] * widest * heads
            if whole < cost[end]:
                cost[end], previous[end] = whole, start
    slices, end = [], count
    while end:
        slices.append(slice(previous[end], end))
        end = previous[end]
    return slices[::-1]


def _beyond(first: Integers, last: Integers, width: int) -> Tensor | None:
    """(texts, 1, 1, width): hides places outside of [first, last); None if there are none."""
    if (first <= 0).all() and (last >= width).all():
        return None
    places = np.arange(width)
    return _hidden((places < first[:, None]) | (places >= last[:, None]))[:, None, None]


def _hidden(hide: NDArray[np.bool_]) -> Tensor:
    return torch.zeros(hide.shape).masked_fill_(torch.from_numpy(hide), torch.finfo(torch.float32).min)


def _add_pieces(
    rectangles: _Rectangles, starts: Integers, lengths: Integers, heads: int, causal: bool, window: int
) -> None:
    """Pieces of texts that are longer than their window, each with the keys that some of its queries see."""
    before, after = window - 1, 0 if causal else window - 1
    size = min(max((before + after) // 2, SMALLEST_PIECE), LARGEST_PIECE)
    counts = -(-lengths // size)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    text, end = np.repeat(starts, counts), np.repeat(starts + lengths, counts)
    own = text + number * size
    taken = np.minimum(size, end - own)
    inside = (own - before >= text) & (own + size + after <= end)
    order = np.flatnonzero(~inside)
    order = order[np.argsort(taken[order], kind="stable")]
    parts = [order[x] for x in _partition(taken[order], before + taken[order] + after, heads)]
    for pieces in ([np.flatnonzero(inside)] if inside.any() else []) + parts:
        height = int(taken[pieces].max())
        width = before + height + after
        apart = np.arange(width) - before - np.arange(height)[:, None]
        band = _hidden((apart < -before) | (apart > after))
        first = own[pieces] - before
        outside = _beyond(text[pieces] - first, end[pieces] - first, width)
        mask = band[None, None] if outside is None else torch.minimum(band, outside)
        group = Group((len(pieces), height, width), mask)
        rectangles.add(own[pieces], taken[pieces], first, (text[pieces], end[pieces]), group)
