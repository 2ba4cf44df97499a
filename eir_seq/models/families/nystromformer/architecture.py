"""Nystromformer (https://arxiv.org/abs/2102.03902): bert with approximate attention, the base of mra and yoso."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from eir_seq.models.architecture import Architecture, TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import LAYER, NATIVE, bert_rows
from eir_seq.models.families.bert.plan import bert_embeddings, bert_plan
from eir_seq.models.families.nystromformer.attention import NystromAttention
from eir_seq.models.families.nystromformer.options import ApproximateEncoderConfig, NystromformerConfig
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds

UNUSED_POSITIONS = 2
"""Rows of the position table before the first token's."""


def long_bert_plan(c: ApproximateEncoderConfig, mixer: Attention.Config) -> StackPlan:
    """Bert without a pooler, with its own mixer and two unused rows in the position table."""
    rows = c.max_position_embeddings + UNUSED_POSITIONS
    table = LearnedPositions.Config(count=rows, numbering=ArangePositionIds(UNUSED_POSITIONS))
    return replace(bert_plan(c, pooler=False, mixer=mixer), embeddings=replace(bert_embeddings(c), positions=table))


def long_bert_rows(c: ApproximateEncoderConfig) -> Iterator[Row]:
    """Bert's key map and the convolution."""
    yield from bert_rows(c)
    yield from for_layers(c.num_hidden_layers, Same(LAYER + "attention.self.conv", NATIVE + "mixer.conv"))


def long_bert_classification(c: ApproximateEncoderConfig) -> SequenceClassification.Config:
    """Hidden layer and linear layer on the first token's state."""
    dropout = c.hidden_dropout_prob
    return SequenceClassification.Config.of(
        c, reads="first", dense=c.hidden_act, dense_dropout=dropout, dropout=dropout
    )


def long_bert_architecture(
    family: str, prefix: str, plan: Callable[[Any], StackPlan], rows: Callable[[Any], Iterable[Row]] = long_bert_rows
) -> Architecture:
    """An architecture with bert's heads on a body without pooler."""
    choice = partial(SequenceClassification.Config.of, reads="first", dense="relu")
    return bert_like(
        family,
        prefix,
        lambda c, pooler=False: plan(c),  # noqa: ARG005
        rows,
        own={
            "causal-lm": None,
            "next-sentence": None,
            "pretraining": None,
            "sequence-classification": TaskHead(
                "ForSequenceClassification",
                long_bert_classification,
                (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out")),
            ),
            "multiple-choice": TaskHead(
                "ForMultipleChoice",
                partial(MultipleChoice.Config.by, one=choice),
                (Same("pre_classifier", "one.dense"), Same("classifier", "one.out")),
            ),
        },
    )


def nystromformer_plan(c: NystromformerConfig) -> StackPlan:
    """Attention by landmarks, or dense where there would be one per token."""
    approximates = c.num_landmarks != c.segment_means_seq_len
    mixer = NystromAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        num_landmarks=c.num_landmarks if approximates else None,
        piece=c.segment_means_seq_len // c.num_landmarks,
        convolution=c.conv_kernel_size,
        together=not c.inv_coeff_init_option,
    )
    return long_bert_plan(c, mixer)


NYSTROMFORMER = long_bert_architecture("Nystromformer", "nystromformer", nystromformer_plan)
