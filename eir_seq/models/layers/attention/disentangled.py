"""Attention whose scores also compare contents with distances (https://arxiv.org/abs/2006.03654, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs, Scored, Scorer
from eir_seq.models.layers.build import Configured, Sized
from eir_seq.models.layers.context import Bias, Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.relative import by_distance


class DistanceTable(Configured):
    """A learned vector per (bucket of) distance, shared by all layers."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`rows`: twice the span of distances. `size`: width of the states. `norm`: of the vectors."""

        rows: int
        size: int
        norm: Sized | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vectors = nn.Embedding(config.rows, config.size)
        self.norm = config.norm.build(config.size) if config.norm else None

    def forward(self) -> Tensor:
        """(rows, size), all vectors."""
        vectors: Tensor = self.vectors.weight
        return vectors if self.norm is None else self.norm(vectors)


@dataclass(frozen=True)
class Distances:
    """How distances (query minus key) find their row in a table of ``2 * span`` rows.

    Without `buckets` each distance up to `max_distance` has its own row. With them, half of the buckets do, and farther
    distances share rows on a logarithmic scale.
    """

    max_distance: int
    buckets: int | None = None

    @property
    def span(self) -> int:
        """Rows for one direction."""
        return self.buckets or self.max_distance

    def rows(self, length: int, device: torch.device) -> Tensor:
        """(2 * length - 1,) rows for the distances length - 1, ..., 1 - length."""
        distance = torch.arange(length - 1, -length, -1, device=device)
        return (self._bucket(distance) + self.span).clamp(0, 2 * self.span - 1)

    def _bucket(self, distance: Tensor) -> Tensor:
        if self.buckets is None:
            return distance
        exact = self.buckets // 2
        far = distance.abs().clamp(min=exact)
        # in float32 and in this order, as published models round: the ceiling sits on exact powers
        growth = torch.log(torch.tensor((self.max_distance - 1) / exact, device=distance.device))
        bucket = torch.ceil(torch.log(far / exact) / growth * (exact - 1)) + exact
        return torch.where(distance.abs() <= exact, distance, bucket.long() * distance.sign())


def between_real(mask: Tensor | None) -> Tensor | None:
    """(batch, 1, 1, length) bool of keys -> (batch, 1, length, length): padding attends to nothing, so to all alike.

    That matters to heads that read states at padding.
    """
    return None if mask is None else mask & mask.transpose(-1, -2)


@dataclass(frozen=True)
class DisentangledScorer(Scorer):
    """Padding attends to all tokens alike."""

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        look, bias = between_real(pairs.mask), pairs.bias
        if look is not None and bias is None:
            bias = torch.zeros((), dtype=query.dtype, device=query.device).expand(look.shape)
        return super().attend(attention, query, key, value, pairs._replace(mask=look, bias=bias))

    def weights(self, attention: Scored, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        return super().weights(attention, query, key, pairs._replace(mask=between_real(pairs.mask)))


class DisentangledAttention(Attention):
    """Scores of contents, plus queries against distances, plus keys against distances."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`distances_of`: how they find their rows; None leaves contents only.

        `by_query`, `by_key`: whether queries, keys are compared with distances. `shared_projections`: distances are
        projected as tokens are. `position_bias`: the projection for queries has a bias. `key_bias`: so has that of
        keys. `position_dropout`: on the shared vectors.
        """

        distances_of: Distances | None = None
        by_query: bool = True
        by_key: bool = True
        shared_projections: bool = False
        position_bias: bool = True
        key_bias: bool = True
        position_dropout: float = 0.0
        scorer: Scorer = DisentangledScorer()

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        inner = config.num_heads * self.head_size
        if not config.key_bias:
            self.key = Linear(config.hidden_size, inner, bias=False)
        own = config.distances_of is not None and not config.shared_projections
        self.position_key = (
            Linear(config.hidden_size, inner, bias=config.position_bias) if own and config.by_query else None
        )
        self.position_query = Linear(config.hidden_size, inner) if own and config.by_key else None
        self.position_dropout = Dropout(config.position_dropout)

    def _bias(self, ctx: Context) -> Bias | None:
        distances, table, longest = self.config.distances_of, ctx.position_table, ctx.layout.length
        if distances is None or table is None or not (self.config.by_query or self.config.by_key):
            return None
        rows = ctx.once(distances, lambda: distances.rows(longest, table.device))
        vectors = self.position_dropout(table)[rows]
        keys = self._projected(vectors, self.position_key or self.key) if self.config.by_query else None
        queries = self._projected(vectors.flip(0), self.position_query or self.query) if self.config.by_key else None

        def bias(query: Tensor, key: Tensor) -> Tensor:
            """One text may be shorter than the longest: its distances lie in the middle."""
            n = key.shape[2]
            used = slice(longest - n, longest + n - 1)
            found = []
            if keys is not None:
                found.append(by_distance(query @ keys[..., used]))
            if queries is not None:
                found.append(by_distance(key @ queries[..., used]).transpose(-1, -2))
            return sum(found[1:], found[0])

        return bias

    def _projected(self, vectors: Tensor, projection: nn.Module) -> Tensor:
        """(distances, size) -> (heads, head_size, distances), scaled as scores are."""
        return self._heads(projection(vectors)).permute(1, 2, 0) * self.scale
