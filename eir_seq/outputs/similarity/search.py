"""Each row's left vector searched among the right vectors of all rows, a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HELD = 2**24
"""Cosines that are in memory at once."""


@dataclass(frozen=True)
class Found:
    """What a search found, for each query.

    Attributes:
        ranks: place of the first match among all candidates, counted from 1, (queries,).
        nearest: a row with the nearest candidate, (queries,).
        cosines: that of the nearest candidate, (queries,).
    """

    ranks: Tensor
    nearest: Tensor
    cosines: Tensor


def search(left: Tensor, right: Tensor, keys: Tensor, contents: Tensor, matching: Tensor | None = None) -> Found:
    """Search left vectors among the right vectors of all rows; rows of equal contents are one candidate.

    The matches of a row are the contents of the rows with its key. Another candidate that is as near as the nearest
    match counts as nearer, so that vectors that are all the same find nothing. Memory is bounded: some rows of the
    matrix of cosines are computed at a time.

    Args:
        left: (rows, size), of length 1.
        right: (rows, size), of length 1.
        keys: a number for what is searched for, such as that of the left input's content, (rows,).
        contents: a number for what is in the right input, (rows,).
        matching: the rows that are pairs which match, (rows,), True or False; these are the queries. By default all.

    Example:
        >>> vectors, numbers = torch.eye(3), torch.arange(3)
        >>> found = search(vectors, vectors[[0, 2, 1]], numbers, numbers)
        >>> found.ranks, found.nearest
        (tensor([1, 3, 3]), tensor([0, 2, 1]))
    """
    distinct, place = torch.unique(contents, return_inverse=True)
    row = torch.arange(len(contents))
    first = row.new_full((len(distinct),), len(row)).scatter_reduce(0, place, row, "amin")
    candidates = right[first].T
    queries = row if matching is None else matching.nonzero().flatten()
    order = keys[queries].argsort(stable=True)
    queries = queries[order]
    ranks, nearest, values = torch.zeros(3, len(queries)).unbind()
    ranks, nearest = ranks.long(), nearest.long()
    of_query = keys[queries].contiguous()
    step, start = max(1, HELD // len(distinct)), 0
    for part in torch.split(torch.arange(len(queries)), step):
        cosines = left[queries[part]] @ candidates
        match = torch.zeros(cosines.shape, dtype=torch.bool)
        # the rows with the key of a query are next to each other
        low = torch.searchsorted(of_query, of_query[part])
        counts = torch.searchsorted(of_query, of_query[part], right=True) - low
        query = torch.repeat_interleave(torch.arange(len(part)), counts)
        within = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
        match[query, place[queries[low[query] + within]]] = True
        best = cosines.masked_fill(~match, -torch.inf).amax(dim=1, keepdim=True)
        end = start + len(part)
        ranks[start:end] = 1 + ((cosines >= best) & ~match).sum(dim=1)
        values[start:end], column = cosines.max(dim=1)
        nearest[start:end] = first[column]
        start = end
    back = order.argsort()
    return Found(ranks[back], nearest[back], values[back])
