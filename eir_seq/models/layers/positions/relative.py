"""Relative positions: biases and vectors of the distance between query and key."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from eir_seq.models.layers.build import Configured


def distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys) key position minus query position; the queries are the last of the keys."""
    return torch.arange(keys, device=device)[None] - torch.arange(keys - queries, keys, device=device)[:, None]


def by_distance(scores: Tensor) -> Tensor:
    """Scores of queries against distances -> against keys, as a view.

    Args:
        scores: (..., queries, keys + queries - 1); column c is for the distance (key minus query) c - (keys - 1),
            where the queries are the last of the keys.

    Returns:
        (..., queries, keys).
    """
    queries, columns = scores.shape[-2:]
    keys = columns - queries + 1
    if queries < 2:
        return scores[..., :keys]
    flat = scores.flatten(-2)[..., queries - 1 : queries - 1 + queries * (columns - 1)]
    return flat.unflatten(-1, (queries, columns - 1))[..., :keys]


def distance_buckets(distance: Tensor, count: int, max_distance: int) -> Tensor:
    """Distances from 0 on -> classes 0 .. `count` - 1, of the same shape; see `RelativeBuckets`."""
    exact = count // 2
    growth = math.log(max_distance / exact)
    far = exact + (torch.log(distance.float() / exact) / growth * (count - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=count - 1))


@dataclass(frozen=True)
class DistanceBias:
    """What is added to scores by the distance from query to key, the same for all texts and layers (T5).

    `values`: (heads or 1, distances), that of a key `d` tokens after its query in column ``origin + d``; with a
    gradient where it is learned.
    """

    values: Tensor
    origin: int
    _made: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (1, heads or 1, queries, keys)."""
        return self.dense(query.shape[2], key.shape[2])[None]

    def dense(self, queries: int, keys: int) -> Tensor:
        """(heads or 1, queries, keys), the queries being the last of the keys; made once for all layers."""
        if torch.compiler.is_compiling():
            return self.values[:, distances(queries, keys, self.values.device) + self.origin]
        if (queries, keys) not in self._made:
            if not torch.is_grad_enabled():  # texts of a packed batch would keep one each
                self._made.clear()
            columns = self.values[:, None, self.origin - keys + 1 : self.origin + queries]
            self._made[queries, keys] = by_distance(columns.expand(-1, queries, -1))
        return self._made[queries, keys]

    def to(self, device: torch.device) -> DistanceBias:
        """The same on that device."""
        return DistanceBias(self.values.to(device), self.origin)


class RelativeBuckets(Configured):
    """A learned bias per head and bucket of distance (T5, https://arxiv.org/abs/1910.10683, 2.1).

    Half of the buckets are exact distances, the other half grow logarithmically up to `max_distance`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`bidirectional`: half of the buckets are for keys after the query."""

        num_buckets: int
        max_distance: int
        num_heads: int
        bidirectional: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.num_buckets, config.num_heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Buckets of distances (key minus query), of the same shape."""
        count, base = self.config.num_buckets, torch.zeros_like(distance)
        if self.config.bidirectional:
            count //= 2
            base = (distance > 0).long() * count
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        return base + distance_buckets(distance, count, self.config.max_distance)

    def by_distance(self, longest: int) -> DistanceBias:
        """The bias of texts of up to `longest` tokens."""
        distance = torch.arange(1 - longest, longest, device=self.table.weight.device)
        return DistanceBias(self.table(self.bucket(distance)).t(), longest - 1)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (1, heads, queries, keys)."""
        distance = distances(query.shape[2], key.shape[2], query.device)
        bias: Tensor = self.table(self.bucket(distance)).permute(2, 0, 1)[None]
        return bias


class LearnedDistances(Configured):
    """A learned vector per distance that is multiplied with the query, and optionally with the key, into the score.

    Sources: https://arxiv.org/abs/1803.02155 (query), https://arxiv.org/abs/2009.13658 method 4 (query and key).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`max_positions`: distances reach from -(max_positions - 1) to max_positions - 1."""

        max_positions: int
        head_size: int
        with_key: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(2 * config.max_positions - 1, config.head_size)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (batch, heads, queries, keys), unscaled."""
        keys = key.shape[2]
        distance = torch.arange(1 - keys, query.shape[2], device=query.device)
        vectors: Tensor = self.table(self.config.max_positions - 1 - distance)
        bias = by_distance(query @ vectors.t())
        if self.config.with_key:
            bias = bias + by_distance(key @ vectors.flip(0).t()).transpose(-1, -2)
        return bias
