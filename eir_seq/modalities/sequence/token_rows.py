"""The tokens of many rows in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.modalities.sequence.truncation import Ids, Strategy

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class TokenRows:
    """Tokens of rows, one after the other.

    Args:
        ids: of all rows, ``(tokens,)``.
        bounds: where each row begins, and the last one ends, ``(rows + 1,)``.
    """

    ids: Ids
    bounds: Numbers

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def sizes(self) -> Numbers:
        """How many tokens each row has, ``(rows,)``."""
        return np.diff(self.bounds)

    @property
    def column(self) -> pa.ListArray:
        """A feature with a sequence per row."""
        return pa.ListArray.from_arrays(pa.array(self.bounds.astype(np.int32)), pa.array(self.ids))

    def count(self, token: int | None) -> Numbers:
        """How often each row has a token, ``(rows,)``."""
        if token is None:
            return np.zeros(len(self), np.int64)
        before = np.concatenate([[0], np.cumsum(self.ids == token)])
        return np.diff(before[self.bounds])

    def filled(self, token: int) -> TokenRows:
        """The rows, where one without any token has this one."""
        empty = self.sizes == 0
        if not empty.any():
            return self
        ids = np.insert(self.ids, self.bounds[:-1][empty], token)
        return TokenRows(ids, self.bounds + np.concatenate([[0], np.cumsum(empty)]))

    def cut(self, keep: Numbers, strategy: Strategy) -> TokenRows:
        """`keep` tokens of each row, ``(rows,)``, as `eir_seq.modalities.sequence.truncation.cut` takes them."""
        sizes = self.sizes
        if (sizes <= keep).all():
            return self
        keep = np.minimum(keep, sizes)
        place = np.arange(len(self.ids)) - np.repeat(self.bounds[:-1], sizes)
        first = keep
        if strategy in ("tail", "middle-out"):
            first = np.zeros_like(keep) if strategy == "tail" else -(-keep // 2)
        last = np.repeat(sizes - (keep - first), sizes)
        kept = (place < np.repeat(first, sizes)) | (place >= last)
        return TokenRows(self.ids[kept], np.concatenate([[0], np.cumsum(keep)]))


def joined_rows(rows: Sequence[Ids]) -> TokenRows:
    """Rows in one array.

    >>> joined_rows([np.array([1, 2]), np.array([3])]).bounds
    array([0, 2, 3])
    """
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return TokenRows(np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32, copy=False), bounds)


def shares_of_rows(lengths: Numbers, pair_lengths: Numbers, budget: int) -> tuple[Numbers, Numbers]:
    """`eir_seq.modalities.sequence.truncation.shares` of many rows, ``(rows,)`` each."""
    half = budget // 2
    cases = [lengths + pair_lengths <= budget, lengths <= half, pair_lengths <= half]
    own = np.select(cases, [lengths, lengths, budget - pair_lengths], budget - half)
    return own, np.select(cases, [pair_lengths, budget - lengths, pair_lengths], half)
