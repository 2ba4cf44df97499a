"""Longformer (https://arxiv.org/abs/2004.05150)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from eir_seq.models.architecture import Architecture, Prepare, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.keymap import LAYER, NATIVE, bert_rows
from eir_seq.models.families.bert.plan import bert_initialization
from eir_seq.models.families.longformer.options import LongformerConfig
from eir_seq.models.families.roberta.architecture import (
    ROBERTA_LANGUAGE_MODEL_ROWS,
    roberta_classification,
    roberta_heads,
    roberta_language_model,
)
from eir_seq.models.heads.base import Inputs
from eir_seq.models.layers.attention.sliding_window import SlidingWindowAttention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import InputPositionIds
from eir_seq.models.layers.residual import LayerPlan, PostNorm


def longformer_plan(c: LongformerConfig, *, pooler: bool = True) -> StackPlan:
    """Roberta with attention in a sliding window, of its own width in each layer."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    assert c.pad_token_id is not None
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            positions=LearnedPositions.Config(
                count=c.max_position_embeddings, numbering=InputPositionIds(c.pad_token_id)
            ),
            num_segments=c.type_vocab_size,
            norm=norm,
            dropout=c.hidden_dropout_prob,
            padding_id=c.pad_token_id,
        ),
        layers=tuple(
            LayerPlan(
                residual=PostNorm,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=SlidingWindowAttention.Config(
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
    """Bert's key map and the projections of global tokens."""
    yield from bert_rows(c)
    attention = LAYER + "attention.self."
    yield from for_layers(
        c.num_hidden_layers,
        *(Same(f"{attention}{part}_global", f"{NATIVE}mixer.{part}_global") for part in ("query", "key", "value")),
    )


def _places(inputs: Inputs) -> Tensor:
    """Numbers of the tokens, in the shape of the ids (..., length)."""
    ids = inputs.get("input_ids")
    shape = inputs["inputs_embeds"].shape[:-1] if ids is None else ids.shape
    device = inputs["inputs_embeds"].device if ids is None else ids.device
    return torch.arange(shape[-1], device=device).expand(shape)


def mark_first(c: LongformerConfig, inputs: Inputs) -> Inputs:  # noqa: ARG001
    """The first token is global where the caller names no global tokens."""
    if inputs.get("global_attention_mask") is not None:
        return inputs
    return {**inputs, "global_attention_mask": (_places(inputs) == 0).long()}


def mark_question(c: LongformerConfig, inputs: Inputs) -> Inputs:
    """All tokens before the first separator, the question, are global where the caller names none."""
    if inputs.get("global_attention_mask") is not None or inputs.get("input_ids") is None:
        return inputs
    return {**inputs, "global_attention_mask": (_places(inputs) < _question_end(c, inputs)).long()}


def mark_choice(c: LongformerConfig, inputs: Inputs) -> Inputs:
    """All tokens after the first two separators, the choice, are global where the caller names none."""
    if inputs.get("global_attention_mask") is not None or inputs.get("input_ids") is None:
        return inputs
    return {**inputs, "global_attention_mask": (_places(inputs) > _question_end(c, inputs) + 1).long()}


def _question_end(c: LongformerConfig, inputs: Inputs) -> Tensor:
    """(..., 1) place of the first separator; the length if there is none."""
    ids = inputs["input_ids"]
    return _places(inputs).masked_fill(ids != c.sep_token_id, ids.shape[-1]).amin(-1, keepdim=True)


def _marked(heads: dict[str, TaskHead], rules: dict[str, Prepare]) -> dict[str, TaskHead]:
    return {task: replace(head, prepare=rules.get(task)) for task, head in heads.items()}


without_pooler = partial(longformer_plan, pooler=False)

LONGFORMER = Architecture(
    tasks=declare_tasks(
        "Longformer",
        "longformer",
        longformer_plan,
        longformer_rows,
        {
            "masked-lm": TaskHead(
                "ForMaskedLM",
                partial(roberta_language_model, predicts="hidden"),
                ROBERTA_LANGUAGE_MODEL_ROWS,
                plan=without_pooler,
            ),
            **_marked(
                roberta_heads(roberta_classification, without_pooler, longformer_plan),
                {
                    "sequence-classification": mark_first,
                    "question-answering": mark_question,
                    "multiple-choice": mark_choice,
                },
            ),
        },
    ),
    prefixes=("longformer",),
    initialization=bert_initialization,
)
