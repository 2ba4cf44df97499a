"""Big_bird and bigbird_pegasus (https://arxiv.org/abs/2007.14062): bert and pegasus with attention between blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bart.architecture import (
    TEXT_HEADS,
    Design,
    bart_like_architecture,
    bart_like_tasks,
    learned_positions,
)
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_heads, head_dropout
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_attention, bert_plan
from eir_seq.models.families.big_bird.attention import BlockSparseAttention
from eir_seq.models.families.big_bird.options import BigBirdConfig, BigBirdPegasusConfig, WithBlocks
from eir_seq.models.heads.base import Inputs
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import Layer, LayerPlan, PreNorm
from eir_seq.models.output import ModelOutput


def encoder_attention(c: WithBlocks, seed: int, full: Attention.Config) -> Attention.Config:
    """Attention between blocks, or as it is in `full`, by the options; `seed`: of random blocks."""
    if c.attention_type == "original_full":
        return full
    return BlockSparseAttention.Config(
        **vars(full),
        block_size=c.block_size,
        random_blocks=c.num_random_blocks,
        seed=seed,
        max_positions=c.position_limit() or 0,
    )


# ----------------------------------------------------------------------------------------------------- big_bird


def big_bird_plan(c: BigBirdConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with attention between blocks; a decoder, which must not look ahead, has full attention."""
    plan = bert_plan(c, pooler=pooler)
    full = replace(bert_attention(c), bias=c.use_bias)
    cross = replace(bert_attention(c, cross=True), bias=c.use_bias) if c.add_cross_attention else None
    layers: Any = plan.layers
    return replace(
        plan,
        embeddings=replace(plan.embeddings, scale=c.hidden_size**0.5 if c.rescale_embeddings else 1.0),  # type: ignore[type-var]
        layers=tuple(
            replace(layer, mixer=full if c.is_decoder else encoder_attention(c, number, full), cross=cross)
            for number, layer in enumerate(layers)
        ),
    )


def with_pooler(c: BigBirdConfig, *, pooler: bool = True) -> StackPlan:  # noqa: ARG001
    """Nearly every published class has the pooler, whether its head reads it or not."""
    return big_bird_plan(c)


def big_bird_rows(c: BigBirdConfig) -> Iterator[Row]:
    """Bert's key map with a bare pooler."""
    yield Same("pooler", "pooler.dense")
    yield from bert_rows(c)


def _classification(c: BigBirdConfig) -> SequenceClassification.Config:
    dropout = head_dropout(c)
    return SequenceClassification.Config.of(
        c, reads="first", dense=c.hidden_act, dense_dropout=dropout, dropout=dropout
    )


def _choice(c: BigBirdConfig) -> SequenceClassification.Config:
    return SequenceClassification.Config.of(c, reads="pooler", dropout=c.hidden_dropout_prob)


class AnswersAfterQuestion(QuestionAnswering):
    """Scores by one more feed-forward block; an answer lies after the question, or at the first token (none)."""

    inputs = ("question_lengths",)

    @dataclass(frozen=True, kw_only=True)
    class Config(QuestionAnswering.Config):
        """The feed-forward block and the norm after it."""

        mlp: Mlp.Config
        norm: LayerNorm.Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.mlp: Mlp = config.mlp.build()
        self.norm = config.norm.build(config.hidden_size)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`start_logits`, `end_logits`: (batch, length) each, low at tokens of the question.

        `question_lengths`: (batch, 1), the first token and the separator after the question included.
        """
        states: Tensor = output.last_hidden_state
        inner = self.dropout(self.mlp(self.dropout(states)))
        found = super().forward(ModelOutput.of(last_hidden_state=self.norm(inner + states)), inputs)
        if (lengths := inputs.get("question_lengths")) is None:
            return found
        places = torch.arange(states.shape[1], device=states.device)
        in_question = (places > 0) & (places < lengths.reshape(-1, 1))
        return {name: x - in_question.to(x.dtype) * min(1e6, torch.finfo(x.dtype).max / 2) for name, x in found.items()}


def find_question(c: BigBirdConfig, inputs: Inputs) -> Inputs:
    """The question ends with the first separator, and what is after it is of segment 1, where not given otherwise."""
    lengths, ids = inputs.get("question_lengths"), inputs.get("input_ids")
    if lengths is None and ids is None:
        return inputs
    given = inputs["inputs_embeds"] if ids is None else ids
    if lengths is None:
        lengths = (given == c.sep_token_id).long().argmax(-1, keepdim=True) + 1
    types = inputs.get("token_type_ids")
    if types is None:
        places = torch.arange(given.shape[1], device=given.device)
        types = (places >= lengths.reshape(-1, 1)).long()
    return {**inputs, "question_lengths": lengths, "token_type_ids": types}


def _answers(c: BigBirdConfig) -> AnswersAfterQuestion.Config:
    return AnswersAfterQuestion.Config.of(
        c,
        dropout=c.hidden_dropout_prob,
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


BIG_BIRD = bert_like(
    "BigBird",
    "bert",
    with_pooler,
    big_bird_rows,
    own={
        "next-sentence": None,
        **bert_heads(
            _classification,
            with_pooler,
            (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out")),
            choice_plan=with_pooler,
            choice=_choice,
        ),
        "question-answering": TaskHead(
            "ForQuestionAnswering",
            _answers,
            (
                Same("qa_classifier.intermediate.dense", "mlp.up"),
                Same("qa_classifier.output.dense", "mlp.down"),
                Same("qa_classifier.output.LayerNorm", "norm"),
                Same("qa_classifier.qa_outputs", "out"),
            ),
            plan=partial(big_bird_plan, pooler=False),
            prepare=find_question,
        ),
    },
)

# ----------------------------------------------------------------------------------------------- bigbird_pegasus


def _layer(c: BigBirdPegasusConfig, residual: type[Layer], number: int, *, decoder: bool) -> LayerPlan:
    plan = Design.layer(c, residual, number, decoder=decoder)
    assert isinstance(plan, LayerPlan)
    assert isinstance(plan.mixer, Attention.Config)
    full = replace(plan.mixer, bias=c.use_bias, out_bias=c.use_bias)
    if not decoder:
        return replace(plan, mixer=encoder_attention(c, number, full))
    assert isinstance(plan.cross, Attention.Config)
    return replace(plan, mixer=full, cross=replace(plan.cross, bias=c.use_bias, out_bias=c.use_bias))


class SparseDesign(Design):
    """Names of its own for the encoder's attention and for the final norms."""

    def side_rows(self, c: BigBirdPegasusConfig, prefix: str, native: str, *, decoder: bool) -> Iterator[Row]:  # type: ignore[override]
        """The key map of one side."""
        yield Same(f"{prefix}layernorm_embedding", f"{native}final_norm")
        if not decoder:
            attention, mixer = f"{prefix}layers.{{i}}.self_attn.", f"{native}layers.{{i}}.mixer."
            parts = (*(("self." + part, part) for part in ("query", "key", "value")), ("output", "out"))
            rows = (Same(attention + published, mixer + own) for published, own in parts)
            yield from for_layers(c.encoder_layers, *rows)
        yield from super().side_rows(c, prefix, native, decoder=decoder)


BIGBIRD_PEGASUS = bart_like_architecture(
    bart_like_tasks(
        "BigBirdPegasus",
        SparseDesign(
            residual=PreNorm,
            normed_embeddings=False,
            final_norm=True,
            positions=learned_positions,
            shifts=True,
            layer=_layer,
        ),
        TEXT_HEADS,
    )
)
