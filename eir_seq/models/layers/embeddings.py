"""From tokens to the first states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from eir_seq.models.layers.build import Configured, Sized
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.eager import is_hooked
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.absolute import LearnedPositions, PositionsConfig
from eir_seq.models.layers.positions.position_ids import ArangePositionIds, PositionIds
from eir_seq.native import embeddings as native

LEAST = 2**16
"""Numbers from which on torch's own lookups, which start faster, take longer."""


class EmbeddingsPlan(Protocol):
    """The config of a module that makes the first states.

    `hidden_size`: width of those states. `features`: transformers' inputs per token that the module reads.
    """

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Documented inputs that the module reads besides ids, positions and segments."""
        ...

    def build(self) -> nn.Module:
        """A module like `Embeddings`: with `tokens`, `numbering`, and its signature."""
        ...


class FeatureEmbedding(Protocol):
    """The config of a part that turns transformers' inputs per token into vectors, which are added."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of those inputs."""
        ...

    def build(self, size: int) -> nn.Module:
        """A module that is called with a dict of those inputs, each (..., own shape), and the position ids (...).

        It gives (..., size). Inputs that the caller left out are missing from the dict.
        """
        ...


class Embeddings(Configured):
    """Token, position, segment and further vectors, summed and normed, with dropout, projected if narrower."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """What varies.

        `embedding_size`: width of the tables where it is not that of the states; a linear layer follows then, and
        with `always_project` even where it is.
        `num_segments`: 0 for none. `padding_id`: the row of the token table that stays zero when it is fresh.
        `segments_are_tokens`: segment ids are looked up in the token table. `further`: vectors of other inputs.
        `scale`: factor on token vectors, rounded to their precision; `scales_given`: on given ones too.
        """

        vocab_size: int
        hidden_size: int
        embedding_size: int | None = None
        always_project: bool = False
        positions: PositionsConfig | None = None
        num_segments: int = 0
        further: FeatureEmbedding | None = None
        norm: Sized | None = None
        dropout: float = 0.0
        padding_id: int | None = None
        segments_are_tokens: bool = False
        scale: float = 1.0
        scales_given: bool = True

        @property
        def features(self) -> tuple[str, ...]:
            """Documented inputs of `further`."""
            return self.further.features if self.further else ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size or config.hidden_size
        self.numbering: PositionIds = config.positions.numbering if config.positions else ArangePositionIds()
        self.tokens = nn.Embedding(config.vocab_size, size, padding_idx=config.padding_id)
        self.positions = config.positions.build(size) if config.positions else None
        self.segments = nn.Embedding(config.num_segments, size) if config.num_segments else None
        self.further = config.further.build(size) if config.further else None
        self.norm = config.norm.build(size) if config.norm else None
        self.dropout = Dropout(config.dropout)
        projects = config.always_project or size != config.hidden_size
        self.project = Linear(size, config.hidden_size) if projects else None

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],
    ) -> Tensor:
        """Token ids (...) or vectors (..., size), position ids, segment ids and features (...) -> (..., hidden).

        A model with segments adds segment 0 where none are given, as published models do.
        """
        x = None if ids is None else self._summed(ids, positions, segments)
        if x is None:
            x = self.token_vectors(ids, vectors, segments)
            if self.segments is not None:
                x = x + self.segments(torch.zeros_like(positions) if segments is None else segments)
            if self.positions is not None:
                x = x + self.positions(positions).to(x.dtype)
        if self.further is not None:
            x = x + self.further(features, positions)
        if self.norm is not None:
            x = self.norm(x)
        x = self.dropout(x)
        return x if self.project is None else self.project(x)

    def _summed(self, ids: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor | None:
        """The sum of token, segment and position vectors by a kernel; None if there is more to it, or too little."""
        positioned, config = self.positions, self.config
        if not isinstance(positioned, LearnedPositions) or ids.numel() * positioned.embedding_dim < LEAST:
            return None
        if config.scale != 1.0 or config.segments_are_tokens or not self._adds_rows:
            return None
        lookups: list[tuple[nn.Embedding, Tensor]] = [(self.tokens, ids), (positioned, positioned.rows(positions))]
        if self.segments is not None:
            lookups.insert(1, (self.segments, torch.zeros_like(positions) if segments is None else segments))
        modules, rows = zip(*lookups, strict=True)
        tables = [module.weight for module in modules]
        if not native.serves(tables, rows) or any(is_hooked(module) for module in modules):
            return None
        return native.summed(tables, rows, [module.padding_idx for module in modules])

    @property
    def _adds_rows(self) -> bool:
        """Whether vectors of tokens are the rows of a table as they are, here and in subclasses."""
        return type(self).token_vectors is Embeddings.token_vectors and type(self.tokens) is nn.Embedding

    def token_vectors(self, ids: Tensor | None, vectors: Tensor | None, segments: Tensor | None) -> Tensor:
        """Token ids (...) or vectors (..., size), and segment ids that are looked up as tokens -> (..., size)."""
        x: Tensor = self.tokens(ids) if vectors is None else vectors
        if self.config.segments_are_tokens and segments is not None:
            x = x + self.tokens(segments)
        if self.config.scale != 1.0 and (vectors is None or self.config.scales_given):
            x = x * torch.tensor(self.config.scale, dtype=x.dtype)
        return x
