"""Luke (https://arxiv.org/abs/2010.01057)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.joined import JoinedPlan
from eir_seq.models.backbones.stack import FirstTokenPooler
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.heads import bert_classification, bert_heads
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_initialization, bert_plan
from eir_seq.models.families.luke.heads import EntityClassification, WordsAndEntities
from eir_seq.models.families.luke.layers import EntityAwareAttention, EntityEmbeddings
from eir_seq.models.families.luke.options import LukeConfig
from eir_seq.models.families.roberta.architecture import ROBERTA_LANGUAGE_MODEL_ROWS, roberta_language_model
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import InputPositionIds


def luke_plan(c: LukeConfig, *, pooler: bool = True) -> JoinedPlan:
    """Roberta's layers over words and entities."""
    assert c.pad_token_id is not None
    attention = EntityAwareAttention if c.use_entity_aware_attention else Attention
    mixer = attention.Config(
        hidden_size=c.hidden_size, num_heads=c.num_attention_heads, dropout=c.attention_probs_dropout_prob
    )
    stack = bert_plan(c, numbering=InputPositionIds(c.pad_token_id), mixer=mixer)
    return JoinedPlan(
        embeddings=stack.embeddings,
        others=EntityEmbeddings.Config(c),
        layers=stack.layers,
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        name="entity",
    )


without_pooler = partial(luke_plan, pooler=False)
"""The body of heads that read token states."""


def in_stack(rows: Iterator[Row], stack: str = "stack") -> Iterator[Row]:
    """A key map of a stack whose layers are inside another backbone."""
    for row in rows:
        if isinstance(row, Same) and row.native.startswith("layers."):
            yield replace(row, native=f"{stack}.{row.native}")
        else:
            yield row


def luke_rows(c: LukeConfig) -> Iterator[Row]:
    """Bert's key map, and those of entities and of their queries."""
    for published, native in (
        ("entity_embeddings", "tokens"),
        ("entity_embedding_dense", "project"),
        ("position_embeddings", "positions"),
        ("token_type_embeddings", "segments"),
        ("LayerNorm", "norm"),
    ):
        yield Same(f"entity_embeddings.{published}", f"embeddings.others.{native}")
    yield from in_stack(bert_rows(c))
    for published, native in (("w2e", "word_to_entity"), ("e2w", "entity_to_word"), ("e2e", "entity_to_entity")):
        yield from for_layers(
            c.num_hidden_layers,
            Same(f"encoder.layer.{{i}}.attention.self.{published}_query", f"stack.layers.{{i}}.mixer.{native}"),
        )


def words_and_entities(c: LukeConfig) -> WordsAndEntities.Config:
    """Hidden words and hidden entities; the latter are always scored by the table of entities."""
    return WordsAndEntities.Config(
        words=roberta_language_model(c, "hidden"),
        entities=LanguageModel.Config(
            predicts="hidden", hidden_size=c.entity_emb_size, vocab_size=c.entity_vocab_size, tied=True, bias=True
        ),
        hidden_size=c.hidden_size,
        activation=c.hidden_act,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


def entity_classification(
    c: LukeConfig, reads: Literal["first", "pair", "spans"] = "first", bias: bool = True
) -> EntityClassification.Config:
    """Classes of the first entity, of the first two together, or of every one with its first and last word."""
    return EntityClassification.Config(
        reads=reads, hidden_size=c.hidden_size, num_labels=c.num_labels, dropout=c.hidden_dropout_prob, bias=bias
    )


entity_pair_classification = partial(entity_classification, reads="pair", bias=False)

entity_span_classification = partial(entity_classification, reads="spans")

CLASSIFIER = (Same("classifier", "out"),)

MASKED_LM_ROWS = (
    *(replace(row, native=f"words.{row.native}") for row in ROBERTA_LANGUAGE_MODEL_ROWS),
    Same("entity_predictions.transform.dense", "dense"),
    Same("entity_predictions.transform.LayerNorm", "norm"),
    Same("entity_predictions.decoder.weight", "entities.out.weight"),
    Same("entity_predictions.bias", "entities.bias"),
)

LUKE = Architecture(
    tasks=declare_tasks(
        "Luke",
        "luke",
        luke_plan,
        luke_rows,
        {
            "masked-lm": TaskHead("ForMaskedLM", words_and_entities, MASKED_LM_ROWS),
            "entity-classification": TaskHead("ForEntityClassification", entity_classification, CLASSIFIER),
            "entity-pair-classification": TaskHead(
                "ForEntityPairClassification", entity_pair_classification, CLASSIFIER
            ),
            "entity-span-classification": TaskHead(
                "ForEntitySpanClassification", entity_span_classification, CLASSIFIER
            ),
            **bert_heads(bert_classification, without_pooler, CLASSIFIER, choice_plan=luke_plan),
        },
    ),
    prefixes=("luke",),
    initialization=bert_initialization,
)
