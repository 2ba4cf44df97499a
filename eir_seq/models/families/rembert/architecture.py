"""Rembert (https://arxiv.org/abs/2010.12821)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_language_model
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_embeddings, bert_plan
from eir_seq.models.families.rembert.options import RemBertConfig
from eir_seq.models.heads.language_model import LanguageModel, Predicts


def rembert_plan(c: RemBertConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with narrow tables."""
    embeddings = replace(bert_embeddings(c), embedding_size=c.input_embedding_size, always_project=True)
    return replace(bert_plan(c, pooler=pooler), embeddings=embeddings)


def rembert_rows(c: RemBertConfig) -> Iterator[Row]:
    """Bert's key map and the projection."""
    yield from bert_rows(c)
    yield Same("encoder.embedding_hidden_mapping_in", "embeddings.project")


def rembert_language_model(c: RemBertConfig, predicts: Predicts) -> LanguageModel.Config:
    """Bert's, with a wide hidden layer and, usually, its own token table."""
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
