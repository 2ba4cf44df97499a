"""Roformer (https://arxiv.org/abs/2104.09864)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_language_model
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.roberta.architecture import ROBERTA_CLASSIFICATION_ROWS, roberta_classification
from eir_seq.models.families.roformer.options import RoFormerConfig
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.positions.absolute import SinesThenCosines


@dataclass(frozen=True, kw_only=True)
class RotationTable:
    """A frozen row per position: the sines of its angles, then the cosines. Files hold it, so it is no formula."""

    count: int
    size: int

    def build(self) -> _RotationTable:
        """The table."""
        return _RotationTable(self.count, self.size)


class _RotationTable(SinesThenCosines):
    def forward(self) -> Tensor:  # type: ignore[override]
        """(count, size), all rows."""
        return self.weight


class RotatedAttention(Attention):
    """Queries, keys and optionally values rotated by the shared table; neighbouring channels are pairs."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`rotates_values`: values are rotated too."""

        rotates_values: bool = False

    config: Config

    def _rotated(self, x: Tensor, ctx: Context) -> Tensor:
        sines, cosines = ctx.once("rotations", lambda: _rotations(ctx))
        even, odd = self._heads(x).unflatten(-1, (-1, 2)).unbind(-1)
        rotated = torch.stack((even * cosines - odd * sines, odd * cosines + even * sines), -1)
        return rotated.flatten(-2).to(x.dtype)

    def _values(self, x: Tensor, ctx: Context) -> Tensor:
        return self._rotated(x, ctx) if self.config.rotates_values else self._heads(x)


def _rotations(ctx: Context) -> tuple[Tensor, ...]:
    """Sines and cosines, each (..., 1, head_size / 2), in the layout of the tokens."""
    assert ctx.position_table is not None
    return ctx.position_table[ctx.positions][..., None, :].chunk(2, -1)


def roformer_plan(c: RoFormerConfig, *, pooler: bool = False) -> StackPlan:
    """Bert without a pooler, with RoPE."""
    mixer = RotatedAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        causal=c.is_decoder,
        dropout=c.attention_probs_dropout_prob,
        rotates_values=c.rotary_value,
    )
    table = RotationTable(count=c.max_position_embeddings, size=c.hidden_size // c.num_attention_heads)
    plan = bert_plan(c, pooler=pooler, positions=False, mixer=mixer, embedding_size=c.embedding_size)
    return replace(plan, position_table=table)


def roformer_rows(c: RoFormerConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("encoder.embed_positions", "position_table")
    yield Same("embeddings_project", "embeddings.project")
    yield from bert_rows(c)


def _classification(c: RoFormerConfig) -> SequenceClassification.Config:
    return replace(roberta_classification(c), dense=c.hidden_act)


def _language_model(c: RoFormerConfig, predicts: Predicts) -> LanguageModel.Config:
    return replace(bert_language_model(c, predicts), embedding_size=c.embedding_size)


ROFORMER = bert_like(
    "RoFormer",
    "roformer",
    roformer_plan,
    roformer_rows,
    language_model=_language_model,
    own={
        "next-sentence": None,
        "pretraining": None,
        "sequence-classification": TaskHead("ForSequenceClassification", _classification, ROBERTA_CLASSIFICATION_ROWS),
        "multiple-choice": TaskHead(
            "ForMultipleChoice",
            partial(MultipleChoice.Config.by, one=partial(SummaryClassification.Config.of, reads="last")),
            (Same("classifier", "one.out"),),
        ),
    },
)
