"""Architectures that are bert but for tables and heads: bert-generation, ernie, rembert.

Sources: https://arxiv.org/abs/1907.12461, https://arxiv.org/abs/1904.09223, https://arxiv.org/abs/2010.12821.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.bert import (
    bert_embeddings,
    bert_initialization,
    bert_language_model,
    bert_like,
    bert_plan,
    bert_rows,
)
from eir_seq.models.blocks.build import Configured
from eir_seq.models.blocks.positions import LearnedPositions
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, Unused
from eir_seq.models.configs.bert_like import BertGenerationConfig, ErnieConfig, RemBertConfig
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.language_model import LanguageModel, Predicts

# ---------------------------------------------------------------------------------------------- bert-generation


def generation_plan(c: BertGenerationConfig) -> StackPlan:
    """Without segments and pooler; the table of positions stays where distances enter the scores."""
    table = LearnedPositions.Config(count=c.max_position_embeddings)
    return replace(bert_plan(c, pooler=False), embeddings=replace(bert_embeddings(c), positions=table))


def generation_rows(c: BertGenerationConfig) -> Iterator[Row]:
    """Bert's key table, in which the table of positions is always read."""
    yield Same("embeddings.position_embeddings", "embeddings.positions")
    yield from (row for row in bert_rows(c) if not isinstance(row, Unused))


def generation_language_model(c: BertGenerationConfig) -> LanguageModel.Config:
    """Scores by the token table with a bias."""
    return replace(bert_language_model(c, "next"), dense=None, norm=None)


BERT_GENERATION = Architecture(
    tasks=declare_tasks(
        "BertGeneration",
        "bert",
        generation_plan,
        generation_rows,
        {
            "causal-lm": TaskHead(
                "Decoder",
                generation_language_model,
                (
                    Same("lm_head.decoder.weight", "out.weight"),
                    Alias("lm_head.decoder.bias", "bias"),
                    Same("lm_head.bias", "bias"),
                ),
            )
        },
        base="BertGenerationEncoder",
    ),
    prefixes=("bert",),
    initialization=bert_initialization,
)

# -------------------------------------------------------------------------------------------------------- ernie


class TaskTypes(Configured):
    """A vector per type of task; the first where none is given."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """`count`: number of types."""

        count: int

        features: ClassVar = ("task_type_ids",)

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.count, size)

    def forward(self, features: dict[str, Tensor], positions: Tensor) -> Tensor:
        """`task_type_ids` (...) -> (..., size)."""
        given = features.get("task_type_ids")
        vectors: Tensor = self.table(torch.zeros_like(positions) if given is None else given)
        return vectors


def ernie_plan(c: ErnieConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with task types."""
    return bert_plan(c, pooler=pooler, further=TaskTypes.Config(c.task_type_vocab_size) if c.use_task_id else None)


def ernie_rows(c: ErnieConfig) -> Iterator[Row]:
    """Bert's key table and the task types."""
    yield from bert_rows(c)
    yield Same("embeddings.task_type_embeddings", "embeddings.further.table")


ERNIE = bert_like("Ernie", "ernie", ernie_plan, ernie_rows)

# ------------------------------------------------------------------------------------------------------ rembert


def rembert_plan(c: RemBertConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with narrow tables."""
    embeddings = replace(bert_embeddings(c), embedding_size=c.input_embedding_size, always_project=True)
    return replace(bert_plan(c, pooler=pooler), embeddings=embeddings)


def rembert_rows(c: RemBertConfig) -> Iterator[Row]:
    """Bert's key table and the projection."""
    yield from bert_rows(c)
    yield Same("encoder.embedding_hidden_mapping_in", "embeddings.project")


def rembert_language_model(c: RemBertConfig, predicts: Predicts) -> LanguageModel.Config:
    """Bert's, with a wide hidden layer and, as a rule, a token table of its own."""
    return replace(bert_language_model(c, predicts), embedding_size=c.output_embedding_size)


REMBERT = bert_like(
    "RemBert",
    "rembert",
    rembert_plan,
    rembert_rows,
    own={"next-sentence": None, "pretraining": None},
    language_model=rembert_language_model,
    language_model_rows=(
        Same("cls.predictions.dense", "dense"),
        Same("cls.predictions.LayerNorm", "norm"),
        Same("cls.predictions.decoder.weight", "out.weight"),
        Same("cls.predictions.decoder.bias", "bias"),
    ),
)
