"""Which texts, or pieces of texts, share a call of attention.

A call costs as much as some ten thousand pairs of tokens, a text of 50 tokens has less than that. So texts of similar
length are padded to the longest of a group where the padding costs less than the calls do, and texts with a sliding
window are cut into pieces, nearly all of which are alike. Lengths alone decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CALL = 2**15
"""Pairs (times heads) that take as long as a call."""
APART = 32
"""Texts of a group at most, so that a plan takes linear time."""
NARROW = 128
"""Widest window whose texts are cut into pieces here: each piece has its own copy of the keys around it."""
SMALLEST_PIECE = 32
"""Queries of a piece of a text at least; else as many as the keys around them: keys are copied twice at most."""

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
    `by_head`: the same for rows of single heads, which lie in order in a rectangle, so that products need no copies.
    `by_head` and `masks_on` are filled for a device when it first wants them.
    """

    groups: tuple[Group, ...]
    queries: Tensor | None = None
    keys: Tensor | None = None
    back: Tensor | None = None
    by_head: dict[tuple[int, int, torch.device], Tensor] = field(default_factory=dict)
    masks_on: dict[torch.device, list[Tensor | None]] = field(default_factory=dict)

    def rectangles(self, query: Tensor, key: Tensor, value: Tensor) -> Iterator[list[Tensor]]:
        """(tokens, heads, head_size) each -> those of each rectangle, (texts, heads, length, head_size)."""
        for x, axis, index in ((query, 1, self.queries), (key, 2, self.keys), (value, 2, self.keys)):
            shapes = [(group.shape[0], x.shape[1], group.shape[axis]) for group in self.groups]
            if index is None:
                ((texts, _, length),) = shapes
                yield [x.unflatten(0, (texts, length)).transpose(1, 2)]
                continue
            rows = x.reshape(-1, x.shape[2]).index_select(0, self._rows(axis, x.shape[1], x.device))
            yield [
                part.unflatten(0, shape)
                for part, shape in zip(rows.split([math.prod(shape) for shape in shapes]), shapes, strict=True)
            ]

    def joined(self, rectangles: Sequence[Tensor]) -> Tensor:
        """The inverse for what attention makes of the queries: (tokens, heads, head_size)."""
        if self.back is None:
            (whole,) = rectangles
            return whole.transpose(1, 2).flatten(0, 1)
        heads, size = rectangles[0].shape[1], rectangles[0].shape[3]
        rows = [x.reshape(-1, size) for x in rectangles]
        places = self._rows(0, heads, rows[0].device)
        return (rows[0] if len(rows) == 1 else torch.cat(rows)).index_select(0, places).view(-1, heads, size)

    @torch.inference_mode(mode=False)  # what is kept serves training, too
    def masks(self, device: torch.device) -> list[Tensor | None]:
        """Those of the rectangles, on the device."""
        if device not in self.masks_on:
            masks = (group.mask for group in self.groups)
            self.masks_on[device] = [None if mask is None else mask.to(device) for mask in masks]
        return self.masks_on[device]

    @torch.inference_mode(mode=False)
    def _rows(self, axis: int, heads: int, device: torch.device) -> Tensor:
        """Which row (token, head) each (text, head, place) of the rectangles is; axis 0: the inverse for queries."""
        if (axis, heads, device) not in self.by_head:
            rows = self._back(heads) if axis == 0 else self._forth(axis, heads)
            self.by_head[axis, heads, device] = rows.to(device)
        return self.by_head[axis, heads, device]

    def _forth(self, axis: int, heads: int) -> Tensor:
        index = self.queries if axis == 1 else self.keys
        assert index is not None
        shapes = [(group.shape[0], 1, group.shape[axis]) for group in self.groups]
        own = torch.arange(heads)[:, None]
        parts = zip(index.split([math.prod(shape) for shape in shapes]), shapes, strict=True)
        return torch.cat([(tokens.view(shape) * heads + own).flatten() for tokens, shape in parts])

    def _back(self, heads: int) -> Tensor:
        assert self.back is not None
        rows, first = [], 0
        for texts, length, _ in (group.shape for group in self.groups):
            numbers = torch.arange(first, first + texts * heads * length)
            rows.append(numbers.view(texts, heads, length).transpose(1, 2).reshape(-1, heads))
            first += len(numbers)
        return torch.cat(rows)[self.back].flatten()


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def planned(
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    heads: int,
    causal: bool,
    window: int | None = None,
    padded: bool = True,
    shared: tuple[tuple[int, ...], ...] | None = None,
) -> Plan:
    """The rectangles for texts of these lengths; see `packed_attention`.

    Args:
        padded: whether texts of unequal length may share one where a mask would hide the padding.
    """
    assert window is None or window <= NARROW or max(queries) <= window
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
        seen = places[own, None] + np.minimum(np.arange(shape[2]), sources[own, None] - 1)
        rectangles.add(starts[own], lengths[own], seen, Group(shape, hidden, causal))
    if long.any():
        assert window is not None
        count = max(map(len, shared)) if shared else 0
        common = np.full((len(lengths), count), -1)
        for row, places_of_text in zip(common, shared or (), strict=False):
            row[: len(places_of_text)] = places_of_text
        _add_pieces(rectangles, starts[long], lengths[long], common[long], heads, causal, window)
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

    def add(self, starts: Integers, lengths: Integers, keys: Integers, group: Group) -> None:
        """Texts whose queries begin at `starts` and see `keys`; padding repeats the last query."""
        count, height, _ = group.shape
        places = np.arange(height)
        self.queries.append((starts[:, None] + np.minimum(places, lengths[:, None] - 1)).ravel())
        self.keys.append(keys.ravel())
        real = np.broadcast_to(places < lengths[:, None], (count, height)).ravel()
        self.rows.append(self.height + np.flatnonzero(real))
        self.tokens.append(self.queries[-1][real])
        self.groups.append(group)
        self.height += count * height

    def plan(self, tokens: int) -> Plan:
        """The plan for that many tokens."""
        back = np.empty(tokens, dtype=np.int64)
        back[np.concatenate(self.tokens)] = np.concatenate(self.rows)
        queries, keys = (torch.from_numpy(np.concatenate(x)) for x in (self.queries, self.keys))
        return Plan(tuple(self.groups), queries, keys, torch.from_numpy(back))


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
    rectangles: _Rectangles,
    starts: Integers,
    lengths: Integers,
    shared: Integers,
    heads: int,
    causal: bool,
    window: int,
) -> None:
    """Pieces of texts that are longer than their window, each with the keys that some of its queries see.

    `shared`: (texts, count) further keys of all queries of a text, before those around them; -1 where there is none.
    """
    before, after = window - 1, 0 if causal else window - 1
    size = max(before + after, SMALLEST_PIECE)
    counts = -(-lengths // size)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    start, end = np.repeat(starts, counts), np.repeat(starts + lengths, counts)
    shared = np.repeat(shared, counts, axis=0)
    own = start + number * size
    taken = np.minimum(size, end - own)
    low, high = own - before, own + size + after
    within = (shared >= low[:, None]) & (shared < high[:, None])
    inside = (low >= start) & (high <= end) & ~within.any(1) & (shared >= 0).all(1)
    edges = np.flatnonzero(~inside)
    edges = edges[np.argsort(taken[edges], kind="stable")]
    parts = [edges[x] for x in _partition(taken[edges], before + taken[edges] + after, heads)]
    for pieces in ([np.flatnonzero(inside)] if inside.any() else []) + parts:
        height = int(taken[pieces].max())
        around = low[pieces, None] + np.arange(before + height + after)
        apart = np.arange(around.shape[1]) - before - np.arange(height)[:, None]
        hide = ((apart < -before) | (apart > after))[None]
        if not inside[pieces[0]]:
            beyond = (around < start[pieces, None]) | (around >= end[pieces, None])
            again = (around[:, :, None] == shared[pieces, None]).any(-1)
            hide = hide | (beyond | again)[:, None]
        none = np.broadcast_to((shared[pieces] < 0)[: len(hide), None], (len(hide), height, shared.shape[1]))
        mask = _hidden(np.concatenate((none, hide), 2))[:, None]
        keys = np.concatenate((shared[pieces], around), 1).clip(start[pieces, None], end[pieces, None] - 1)
        rectangles.add(own[pieces], taken[pieces], keys, Group((len(pieces), height, keys.shape[1]), mask))
