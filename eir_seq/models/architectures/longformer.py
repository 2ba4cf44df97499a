"""Longformer (https://arxiv.org/abs/2004.05150)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from eir_seq.models.architecture import Architecture, Task
from eir_seq.models.architectures.bert import LAYER, OURS, bert_initialization, bert_rows
from eir_seq.models.architectures.roberta import (
    ROBERTA_CLASSIFICATION_ROWS,
    ROBERTA_IGNORED,
    ROBERTA_LANGUAGE_MODEL_ROWS,
    roberta_language_model,
)
from eir_seq.models.blocks.banded_attention import BandedAttention
from eir_seq.models.blocks.embeddings import Embeddings
from eir_seq.models.blocks.mlp import Mlp
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import CountReal, LearnedPositions
from eir_seq.models.blocks.wiring import LayerPlan, PostNorm
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.configs.longformer import LongformerConfig
from eir_seq.models.frames.stack import FirstTokenPooler, StackPlan
from eir_seq.models.heads.base import Inputs, Targets
from eir_seq.models.heads.sequence_classification import SequenceClassification


def longformer_plan(c: LongformerConfig, *, pooler: bool = True) -> StackPlan:
    """Roberta with attention in a sliding window, of its own width in each layer."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    assert c.pad_token_id is not None
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            positions=LearnedPositions.Config(count=c.max_position_embeddings, numbering=CountReal(c.pad_token_id)),
            num_segments=c.type_vocab_size,
            norm=norm,
            dropout=c.hidden_dropout_prob,
            padding_id=c.pad_token_id,
        ),
        layers=tuple(
            LayerPlan(
                wiring=PostNorm,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=BandedAttention.Config(
                    hidden_size=c.hidden_size,
                    num_heads=c.num_attention_heads,
                    reach=window // 2,
                    dropout=c.attention_probs_dropout_prob,
                ),
                mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
                dropout=c.hidden_dropout_prob,
            )
            for window in c.windows()
        ),
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        features=("global_attention_mask",),
    )


def longformer_rows(c: LongformerConfig) -> Iterator[Row]:
    """Bert's key table and the projections of global tokens."""
    yield from bert_rows(c)
    attention = LAYER + "attention.self."
    yield from for_layers(
        c.num_hidden_layers,
        *(Same(f"{attention}{part}_global", f"{OURS}mixer.{part}_global") for part in ("query", "key", "value")),
    )


class GlobalFirstToken(SequenceClassification):
    """The first token is global where the caller names no global tokens."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SequenceClassification.Config):
        """See `SequenceClassification.Config`."""

        def build(self) -> GlobalFirstToken:
            """The head."""
            return GlobalFirstToken(self)

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:  # noqa: ARG002
        """Mark the first token."""
        if inputs.get("global_attention_mask") is not None:
            return inputs
        given = next(inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None)
        mark = torch.zeros(given.shape[:2], dtype=torch.long, device=given.device)
        mark[:, 0] = 1
        return {**inputs, "global_attention_mask": mark}


def _classification(c: LongformerConfig) -> SequenceClassification.Config:
    return GlobalFirstToken.Config(
        reads="first",
        hidden_size=c.hidden_size,
        num_labels=c.num_labels,
        problem_type=c.problem_type,
        dense="tanh",
        dense_dropout=c.hidden_dropout_prob,
        dropout=c.hidden_dropout_prob,
    )


without_pooler = partial(longformer_plan, pooler=False)

LONGFORMER = Architecture(
    tasks={
        "base": Task(published="LongformerModel", plan=longformer_plan, body_rows=longformer_rows),
        "masked-lm": Task(
            published="LongformerForMaskedLM",
            plan=without_pooler,
            body_rows=longformer_rows,
            prefix="longformer",
            head=partial(roberta_language_model, predicts="hidden"),
            head_rows=ROBERTA_LANGUAGE_MODEL_ROWS,
        ),
        "sequence-classification": Task(
            published="LongformerForSequenceClassification",
            plan=without_pooler,
            body_rows=longformer_rows,
            prefix="longformer",
            head=_classification,
            head_rows=ROBERTA_CLASSIFICATION_ROWS,
        ),
    },
    prefixes=("longformer",),
    initialization=bert_initialization,
    ignored=ROBERTA_IGNORED,
)
