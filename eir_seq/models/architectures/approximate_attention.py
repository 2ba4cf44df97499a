"""Encoders that are bert but for the way in which they approximate attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from eir_seq.models.architecture import Architecture, TaskHead
from eir_seq.models.architectures.bert import LAYER, OURS, bert_embeddings, bert_like, bert_plan, bert_rows
from eir_seq.models.blocks.attention import Attention
from eir_seq.models.blocks.bernoulli_attention import BernoulliAttention
from eir_seq.models.blocks.multiresolution_attention import MultiresolutionAttention
from eir_seq.models.blocks.nystrom_attention import NystromAttention
from eir_seq.models.blocks.positions import CountAll, LearnedPositions
from eir_seq.models.checkpoint.keymap import Constant, Row, Same, for_layers
from eir_seq.models.configs.approximate_attention import (
    BLOCK,
    ApproximateEncoderConfig,
    MraConfig,
    NystromformerConfig,
    YosoConfig,
)
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.initialization import Initialization

UNUSED_POSITIONS = 2
"""Rows of the position table in front of the first token's."""
NARROWEST_HEAD = 32
"""Scores of narrower heads are scaled as if they had this width, as published code fills them up to it."""


def _plan(c: ApproximateEncoderConfig, mixer: Attention.Config) -> StackPlan:
    """Bert without a pooler, with its own mixer and two unused rows in the position table."""
    rows = c.max_position_embeddings + UNUSED_POSITIONS
    table = LearnedPositions.Config(count=rows, numbering=CountAll(UNUSED_POSITIONS))
    return replace(bert_plan(c, pooler=False, mixer=mixer), embeddings=replace(bert_embeddings(c), positions=table))


def _rows(c: ApproximateEncoderConfig) -> Iterator[Row]:
    """Bert's key table and the convolution."""
    yield from bert_rows(c)
    yield from for_layers(c.num_hidden_layers, Same(LAYER + "attention.self.conv", OURS + "mixer.conv"))


def _classification(c: ApproximateEncoderConfig) -> SequenceClassification.Config:
    dropout = c.hidden_dropout_prob
    return SequenceClassification.Config.of(
        c, reads="first", dense=c.hidden_act, dense_dropout=dropout, dropout=dropout
    )


def _architecture(
    family: str, prefix: str, plan: Callable[[Any], StackPlan], rows: Callable[[Any], Iterable[Row]] = _rows
) -> Architecture:
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
                _classification,
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
    return _plan(c, mixer)


NYSTROMFORMER = _architecture("Nystromformer", "nystromformer", nystromformer_plan)


def yoso_plan(c: YosoConfig) -> StackPlan:
    """Attention by the chance that hashes agree.

    A mask is honoured, as the paper has it, where the published code of today leaves padding in.
    """
    mixer = BernoulliAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        hash_length=c.hash_code_len,
        num_hashes=None if c.use_expectation else c.num_hash,
        rotates=c.use_fast_hash,
        sampled_gradient=c.lsh_backward,
        convolution=c.conv_window,
    )
    return _plan(c, mixer)


def _yoso_initialization(c: YosoConfig) -> Initialization:
    """Bert's, but for the convolution: as wide as the uniform distribution that published code draws it from."""
    deviations = {"*.mixer.conv.weight": (3 * c.conv_window) ** -0.5} if c.conv_window else {}
    return Initialization(c.initializer_range, deviations)


YOSO = replace(_architecture("Yoso", "yoso", yoso_plan), initialization=_yoso_initialization)


def mra_plan(c: MraConfig) -> StackPlan:
    """Attention between blocks, and between tokens of the best pairs of blocks."""
    mixer = MultiresolutionAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        block=BLOCK,
        fine_pairs=c.fine_pairs(),
        scale=max(NARROWEST_HEAD, c.hidden_size // c.num_attention_heads) ** -0.5,
        coarse_rest=c.approx_mode == "full",
        first=c.initial_prior_first_n_blocks,
        diagonal=c.initial_prior_diagonal_n_blocks,
    )
    return _plan(c, mixer)


def mra_rows(c: MraConfig) -> Iterator[Row]:
    """Bert's key table, and the position ids that files hold."""
    numbers = torch.arange(c.max_position_embeddings)[None] + UNUSED_POSITIONS
    yield Constant("embeddings.position_ids", numbers)
    yield from bert_rows(c)


MRA = _architecture("Mra", "mra", mra_plan, mra_rows)
