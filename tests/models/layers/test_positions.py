"""Scores by distance as scores by key."""

from __future__ import annotations

import pytest
import torch

from eir_seq.models.layers.positions.relative import by_distance


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 1), (1, 4), (2, 2), (3, 7), (0, 0)], ids=str)
def test_by_distance(queries: int, keys: int) -> None:
    """The queries are the last of the keys; columns go from the farthest key in front to the farthest behind."""
    scores = torch.randn(2, 3, queries, max(keys + queries - 1, 0), requires_grad=True)
    found = by_distance(scores)
    assert found.shape == (2, 3, queries, keys) if queries else found.numel() == 0
    for query in range(queries):
        for key in range(keys):
            distance = key - (query + keys - queries)
            assert torch.equal(found[..., query, key], scores[..., query, distance + keys - 1])
    found.sum().backward()
    assert int(scores.grad.sum()) == 2 * 3 * queries * keys  # type: ignore[union-attr]
