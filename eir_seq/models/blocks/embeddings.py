"""From tokens to the first states."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.blocks.build import Sized
from eir_seq.models.blocks.positions import CountAll, Numbering, PositionsConfig


class Embeddings(nn.Module):
    """Token, position and segment vectors, summed, normed and dropped out."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`num_segments`: 0 for none. `padding_id`: the row of the token table that stays zero when it is fresh."""

        vocab_size: int
        hidden_size: int
        positions: PositionsConfig | None = None
        num_segments: int = 0
        norm: Sized | None = None
        dropout: float = 0.0
        padding_id: int | None = None
        segments_are_tokens: bool = False

        def build(self) -> Embeddings:
            """The tables."""
            return Embeddings(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.numbering: Numbering = config.positions.numbering if config.positions else CountAll()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.padding_id)
        self.positions = config.positions.build(config.hidden_size) if config.positions else None
        self.segments = nn.Embedding(config.num_segments, config.hidden_size) if config.num_segments else None
        self.norm = config.norm.build(config.hidden_size) if config.norm else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
    ) -> Tensor:
        """Token ids (...) or vectors (..., hidden), position ids and segment ids (...) -> states (..., hidden).

        A model with segments adds segment 0 where none are given, as published models do.
        """
        x: Tensor = self.tokens(ids) if vectors is None else vectors
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(positions) if segments is None else segments)
        elif self.config.segments_are_tokens and segments is not None:
            x = x + self.tokens(segments)
        if self.positions is not None:
            x = x + self.positions(positions)
        if self.norm is not None:
            x = self.norm(x)
        dropped: Tensor = self.dropout(x)
        return dropped
