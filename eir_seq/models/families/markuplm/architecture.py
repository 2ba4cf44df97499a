"""Markuplm (https://arxiv.org/abs/2110.08518)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Unused
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.markuplm.options import MarkupLMConfig
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.position_ids import InputPositionIds


class XPathEmbedding(Configured):
    """The way to a token's node: one vector per step, of its tag and its number among equal tags (section 3.1)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`depth`: steps of an xpath; `unit_size`: width of a step; `tags`, `subscripts`: rows of the tables."""

        depth: int
        unit_size: int
        tags: int
        subscripts: int
        tag_padding: int
        subscript_padding: int
        dropout: float = 0.0

        features: ClassVar = ("xpath_tags_seq", "xpath_subs_seq")

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.config = config
        depth, unit = config.depth, config.unit_size
        self.tags = nn.ModuleList(nn.Embedding(config.tags, unit) for _ in range(depth))
        self.subscripts = nn.ModuleList(nn.Embedding(config.subscripts, unit) for _ in range(depth))
        self.up, self.down = Linear(depth * unit, 4 * size), Linear(4 * size, size)
        self.dropout = Dropout(config.dropout)

    def forward(self, features: dict[str, Tensor], positions: Tensor) -> Tensor:
        """`xpath_tags_seq`, `xpath_subs_seq`: (..., depth), padding where left out -> (..., size)."""
        vectors = self._path("xpath_tags_seq", self.tags, self.config.tag_padding, features, positions)
        vectors = vectors + self._path(
            "xpath_subs_seq", self.subscripts, self.config.subscript_padding, features, positions
        )
        return self.down(self.dropout(torch.relu(self.up(vectors))))

    def _path(
        self, name: str, tables: nn.ModuleList, padding: int, features: dict[str, Tensor], positions: Tensor
    ) -> Tensor:
        """(..., depth * unit): the steps of one kind, each from the table of its depth."""
        steps = features.get(name)
        if steps is None:
            steps = positions.new_full((*positions.shape, self.config.depth), padding)
        elif steps.shape[-1] != self.config.depth:
            raise ValueError(f"{name} has {steps.shape[-1]} steps per token, max_depth is {self.config.depth}")
        return torch.cat([table(step) for table, step in zip(tables, steps.unbind(-1), strict=True)], -1)


def markuplm_plan(c: MarkupLMConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with xpaths and with positions counted over real tokens."""
    assert c.pad_token_id is not None
    further = XPathEmbedding.Config(
        depth=c.max_depth,
        unit_size=c.xpath_unit_hidden_size,
        tags=c.max_xpath_tag_unit_embeddings,
        subscripts=c.max_xpath_subs_unit_embeddings,
        tag_padding=c.tag_pad_id,
        subscript_padding=c.subs_pad_id,
        dropout=c.hidden_dropout_prob,
    )
    return bert_plan(c, pooler=pooler, numbering=InputPositionIds(c.pad_token_id), further=further)


def markuplm_rows(c: MarkupLMConfig) -> Iterator[Row]:
    """Bert's key map and that of xpaths, in which one layer is never read."""
    published, native = "embeddings.xpath_embeddings.", "embeddings.further."
    for i in range(c.max_depth):
        yield Same(f"{published}xpath_tag_sub_embeddings.{i}", f"{native}tags.{i}")
        yield Same(f"{published}xpath_subs_sub_embeddings.{i}", f"{native}subscripts.{i}")
    yield Same(f"{published}xpath_unitseq2_inner", f"{native}up")
    yield Same(f"{published}inner2emb", f"{native}down")
    yield Unused(
        f"{published}xpath_unitseq2_embeddings.weight", (c.hidden_size, c.max_depth * c.xpath_unit_hidden_size)
    )
    yield Unused(f"{published}xpath_unitseq2_embeddings.bias", (c.hidden_size,))
    yield from bert_rows(c)


MARKUPLM = bert_like(
    "MarkupLM",
    "markuplm",
    markuplm_plan,
    markuplm_rows,
    own=dict.fromkeys(("masked-lm", "causal-lm", "next-sentence", "pretraining", "multiple-choice")),
)
