"""The layers of mobilebert: trigram embeddings, bottlenecks, norms without statistics."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.families.mobilebert.options import MobileBertConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Configured, Sized
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds


def mobilebert_norm(c: MobileBertConfig, eps: float | None = None) -> Sized:
    """The norm of layers; published ones add another number to the variance at some places."""
    if c.normalization_type == "no_norm":
        return NoNorm.Config()
    return LayerNorm.Config(eps=c.layer_norm_eps if eps is None else eps)


def widens(c: MobileBertConfig) -> bool:
    """Whether embeddings are widened to the states by a linear layer."""
    return c.trigram_input or c.embedding_size != c.hidden_size


class NoNorm(Configured):
    """A learned scale and shift per channel instead of a norm (section 3.3)."""

    def __init__(self, config: Configured.Config, size: int) -> None:  # noqa: ARG002
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return x * self.weight + self.bias


class TrigramEmbeddings(Configured):
    """Narrow token vectors, each widened together with its neighbours, then positions, segments and a norm."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: MobileBertConfig

        @property
        def hidden_size(self) -> int:
            """Width of the states."""
            return self.options.hidden_size

        features: ClassVar = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        self.numbering, self.trigram = ArangePositionIds(), c.trigram_input
        self.tokens = nn.Embedding(c.vocab_size, c.embedding_size, padding_idx=c.pad_token_id)
        self.positions = LearnedPositions.Config(count=c.max_position_embeddings).build(c.hidden_size)
        self.segments = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.project = Linear(c.embedding_size * (3 if self.trigram else 1), c.hidden_size) if widens(c) else None
        self.norm = mobilebert_norm(c, eps=1e-5).build(c.hidden_size)
        self.dropout = Dropout(c.hidden_dropout_prob)

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],  # noqa: ARG002
    ) -> Tensor:
        """Ids (batch, length) or vectors (batch, length, embedding size) -> (batch, length, hidden).

        Neighbours beyond either end are zero; padding is a neighbour like any other, as published.
        """
        x: Tensor = self.tokens(ids) if vectors is None else vectors
        if self.trigram:
            x = torch.cat((F.pad(x[:, 1:], (0, 0, 0, 1)), x, F.pad(x[:, :-1], (0, 0, 1, 0))), -1)
        x = x if self.project is None else self.project(x)
        x = x + self.positions(positions) + self.segments(torch.zeros_like(positions) if segments is None else segments)
        embedded: Tensor = self.dropout(self.norm(x))
        return embedded


class TwoSourceAttention(Attention):
    """Attention whose values are taken from other states than its queries and keys."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`value_size`: width of the states that values are taken from."""

        value_size: int

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.value = Linear(config.value_size, config.hidden_size)

    def forward(self, x: Tensor, ctx: Context, values: Tensor | None = None) -> Tensor:
        """States of the context's layout -> the same."""
        value = self._heads(self.value(x if values is None else values))
        return self.out(self._attend(self._heads(self.query(x)), self._heads(self.key(x)), value, ctx))


def _narrowing(size: int, narrow: int, norm: Sized) -> nn.Module:
    """A linear layer with its norm."""
    return nn.Sequential(OrderedDict(dense=Linear(size, narrow), norm=norm.build(narrow)))


class BottleneckLayer(Configured):
    """Attention and several feed-forward blocks on narrow states, widened again after them (section 3.1)."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: MobileBertConfig

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        norm, inner = mobilebert_norm(c), c.inner_size
        narrows = c.use_bottleneck
        self.input = _narrowing(c.hidden_size, inner, norm) if narrows else None
        self.shared = _narrowing(c.hidden_size, inner, norm) if narrows and c.key_query_shared_bottleneck else None
        self.values_narrow = narrows and c.use_bottleneck_attention
        self.mixer = TwoSourceAttention.Config(
            hidden_size=inner,
            num_heads=c.num_attention_heads,
            value_size=inner if self.values_narrow else c.hidden_size,
            dropout=c.attention_probs_dropout_prob,
        ).build()
        self.mixer_norm = norm.build(inner)
        blocks = Mlp.Config(hidden_size=inner, inner_size=c.intermediate_size, activation=c.hidden_act)
        count = c.num_feedforward_networks
        self.mlps = nn.ModuleList(blocks.build() for _ in range(count))
        self.mlp_norms = nn.ModuleList(
            mobilebert_norm(c, None if i < count - 1 else 1e-5).build(inner) for i in range(count)
        )
        self.output = Linear(inner, c.hidden_size) if narrows else None
        self.output_norm = norm.build(c.hidden_size) if narrows else None
        self.dropout = Dropout(c.hidden_dropout_prob)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        narrow = x if self.input is None else self.input(x)
        if self.values_narrow:
            mixed = self.mixer(narrow, ctx)
        else:
            mixed = self.mixer(x if self.shared is None else self.shared(x), ctx, x)
        dropped = self.dropout if self.output is None else nn.Identity()
        y = self.mixer_norm(dropped(mixed) + narrow)
        last = len(self.mlps) - 1
        for i, (mlp, norm) in enumerate(zip(self.mlps, self.mlp_norms, strict=True)):
            y = norm((dropped(mlp(y)) if i == last else mlp(y)) + y)
        if self.output is None or self.output_norm is None:
            return y
        widened: Tensor = self.output_norm(self.dropout(self.output(y)) + x)
        return widened


class FirstToken(Configured):
    """The first token's state as it is."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """States of `layout` -> (batch, hidden)."""
        return layout.first(x)
