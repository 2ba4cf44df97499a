"""The layers of luke: entities alongside words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.backbones.joined import OTHERS
from eir_seq.models.families.luke.options import LukeConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm


class EntityEmbeddings(Configured):
    """An entity's vector, the mean of the positions that its mention covers, and a segment."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: LukeConfig

        features: ClassVar = ("entity_ids", "entity_attention_mask", "entity_token_type_ids", "entity_position_ids")

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        size, narrow = c.hidden_size, c.entity_emb_size
        self.tokens = nn.Embedding(c.entity_vocab_size, narrow, padding_idx=0)
        self.project = Linear(narrow, size, bias=False) if narrow != size else None
        self.positions = nn.Embedding(c.max_position_embeddings, size)
        self.segments = nn.Embedding(c.type_vocab_size, size)
        self.norm = LayerNorm.Config(eps=c.layer_norm_eps).build(size)
        self.dropout = Dropout(c.hidden_dropout_prob)

    def forward(self, features: dict[str, Tensor], text: nn.Module) -> tuple[Tensor, Tensor | None] | None:  # noqa: ARG002
        """`entity_ids` (batch, entities), `entity_position_ids` (batch, entities, mention), -1 where it is shorter.

        Raises:
            ValueError: one of the two is given without the other.
        """
        ids, places = features.get("entity_ids"), features.get("entity_position_ids")
        if (ids is None) != (places is None):
            raise ValueError("entity_ids and entity_position_ids belong together: give both or neither")
        if ids is None or places is None:
            return None
        x = self.tokens(ids) if self.project is None else self.project(self.tokens(ids))
        covered = (places != -1)[..., None].to(x.dtype)
        where = (self.positions(places.clamp(min=0)) * covered).sum(-2) / covered.sum(-2).clamp(min=1e-7)
        segments = features.get("entity_token_type_ids")
        x = x + where + self.segments(torch.zeros_like(ids) if segments is None else segments)
        return self.dropout(self.norm(x)), features.get("entity_attention_mask")


class EntityAwareAttention(Attention):
    """Queries depend on the kinds of both sides, words or entities; keys and values do not (section 3.3)."""

    def __init__(self, config: Attention.Config) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.word_to_entity, self.entity_to_word = Linear(size, size), Linear(size, size)
        self.entity_to_entity = Linear(size, size)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same.

        A query is laid out twice as wide, for words and for entities; a key is zero in the half that is not its own.
        """
        others = ctx.features.get(OTHERS)
        if others is None:
            return super().forward(x, ctx)
        words = ctx.layout.length - others.shape[1]
        is_entity = ctx.once("is_entity", lambda: self._kinds(x, ctx, words))
        at_words, at_entities = self.query(x), self.word_to_entity(x)
        if ctx.layout.packed:
            places = ctx.once("entities", lambda: is_entity.nonzero().squeeze(1))
            rows = x.index_select(0, places)
            at_words = at_words.index_copy(0, places, self.entity_to_word(rows))
            at_entities = at_entities.index_copy(0, places, self.entity_to_entity(rows))
        else:
            rows = x[:, words:]
            at_words = torch.cat((at_words[:, :words], self.entity_to_word(rows)), 1)
            at_entities = torch.cat((at_entities[:, :words], self.entity_to_entity(rows)), 1)
        key, entity = self._heads(self.key(x)), is_entity[..., None, None]
        wide_key = torch.cat((key.masked_fill(entity, 0), key.masked_fill(~entity, 0)), -1)
        wide_query = torch.cat((self._heads(at_words), self._heads(at_entities)), -1)
        # values as wide as keys, since torch's fast kernels take no others
        wide_value = F.pad(self._heads(self.value(x)), (0, self.head_size))
        mixed = self._attend(wide_query, wide_key, wide_value, ctx).unflatten(-1, (-1, 2 * self.head_size))
        return self.out(mixed[..., : self.head_size].flatten(-2))

    @staticmethod
    def _kinds(x: Tensor, ctx: Context, words: int) -> Tensor:
        """Which states are those of entities, in the context's layout."""
        layout = ctx.layout
        kinds = (torch.arange(layout.length, device=x.device) >= words).expand(layout.batch, -1)
        return layout.pack(kinds)
