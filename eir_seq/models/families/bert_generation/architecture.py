"""Bert-generation (https://arxiv.org/abs/1907.12461)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, Unused
from eir_seq.models.families.bert.heads import bert_language_model
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_embeddings, bert_initialization, bert_plan
from eir_seq.models.families.bert_generation.options import BertGenerationConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.positions.absolute import LearnedPositions


def generation_plan(c: BertGenerationConfig) -> StackPlan:
    """Without segments and pooler; the table of positions stays where distances enter the scores."""
    table = LearnedPositions.Config(count=c.max_position_embeddings)
    return replace(bert_plan(c, pooler=False), embeddings=replace(bert_embeddings(c), positions=table))


def generation_rows(c: BertGenerationConfig) -> Iterator[Row]:
    """Bert's key map, in which the table of positions is always read."""
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
