"""Reformer (https://arxiv.org/abs/2001.04451)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, for_layers
from eir_seq.models.families.reformer.lsh_attention import LocalSelfAttention, LshSelfAttention
from eir_seq.models.families.reformer.options import ReformerConfig
from eir_seq.models.families.reformer.reversible import ReversibleLayer, ReversibleStackPlan
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds, PositionIds
from eir_seq.models.layers.residual import LayerPlan


class AxialPositions(Configured):
    """A position's vector is one per axis side by side, by its place on a grid."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`shape`: places on each axis; `sizes`: widths of their vectors."""

        shape: tuple[int, ...]
        sizes: tuple[int, ...]
        numbering: PositionIds = ArangePositionIds()

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.shape = config.shape
        assert sum(config.sizes) == size
        self.weights = nn.ParameterList()
        for axis, width in enumerate(config.sizes):
            axes = [count if other == axis else 1 for other, count in enumerate(config.shape)]
            self.weights.append(nn.Parameter(torch.empty(*axes, width)))

    def forward(self, positions: Tensor) -> Tensor:
        """Position ids (...) -> (..., size)."""
        parts = []
        for axis, weight in enumerate(self.weights):
            place = positions // math.prod(self.shape[axis + 1 :]) % self.shape[axis]
            parts.append(weight.flatten(0, -2)[place])
        return torch.cat(parts, -1)


class PartwiseLanguageModel(LanguageModel):
    """Scores that many tokens at once."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`at_once`: tokens that are scored at once, 0 for all of them."""

        at_once: int

    config: Config

    def scores(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., vocabulary)."""
        if not self.config.at_once or x.dim() < 3:
            return super().scores(x)
        return torch.cat(
            [super(PartwiseLanguageModel, self).scores(part) for part in x.split(self.config.at_once, 1)], 1
        )


def reformer_mixer(c: ReformerConfig, kind: str) -> LocalSelfAttention.Config:
    """Attention of a layer."""
    lengths = c.chunk_lengths()
    common: dict[str, Any] = {
        "hidden_size": c.hidden_size,
        "num_heads": c.num_attention_heads,
        "head_size": c.attention_head_size,
        "least": min(lengths),
        "multiple": math.lcm(*lengths),
        "causal": c.is_decoder,
    }
    if kind == "local":
        return LocalSelfAttention.Config(
            **common,
            chunk=c.local_attn_chunk_length,
            before=c.local_num_chunks_before,
            after=c.local_num_chunks_after,
            dropout=c.local_attention_probs_dropout_prob,
        )
    return LshSelfAttention.Config(
        **common,
        chunk=c.lsh_attn_chunk_length,
        before=c.lsh_num_chunks_before,
        after=c.lsh_num_chunks_after,
        dropout=c.lsh_attention_probs_dropout_prob,
        hashes=c.num_hashes,
        buckets=tuple(c.num_buckets) if isinstance(c.num_buckets, list) else c.num_buckets,
        max_positions=c.max_position_embeddings,
        seed=c.hash_seed,
    )


def reformer_plan(c: ReformerConfig) -> ReversibleStackPlan:
    """Two streams through pre-norm layers, and a final norm of both."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    table = LearnedPositions.Config(count=c.max_position_embeddings)
    axes = AxialPositions.Config(shape=tuple(c.axial_pos_shape), sizes=tuple(c.axial_pos_embds_dim))
    return ReversibleStackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            positions=axes if c.axial_pos_embds else table,  # type: ignore[arg-type]
            dropout=c.hidden_dropout_prob,
        ),
        layers=tuple(
            LayerPlan(
                residual=ReversibleLayer,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=reformer_mixer(c, kind),
                mlp=Mlp.Config(
                    hidden_size=c.hidden_size,
                    inner_size=c.feed_forward_size,
                    activation=c.hidden_act,
                    inner_dropout=c.hidden_dropout_prob,
                ),
                dropout=c.hidden_dropout_prob,
            )
            for kind in c.attn_layers
        ),
        final_norm=norm,
        final_dropout=c.hidden_dropout_prob,
        norms_last_state=False,
        features=("num_hashes",),
    )


def reformer_rows(c: ReformerConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings.word_embeddings", "embeddings.tokens")
    yield Same("embeddings.position_embeddings.embedding", "embeddings.positions")
    for axis in range(len(c.axial_pos_shape)):
        yield Same(f"embeddings.position_embeddings.weights.{axis}", f"embeddings.positions.weights.{axis}")
    for i, kind in enumerate(c.attn_layers):
        prefix, native = f"encoder.layers.{i}.", f"layers.{i}."
        parts = (("query_key", "key"),) if kind == "lsh" else (("query", "query"), ("key", "key"))
        for published, own in (*parts, ("value", "value")):
            yield Same(f"{prefix}attention.self_attention.{published}", f"{native}mixer.{own}")
    yield from for_layers(
        len(c.attn_layers),
        Same("encoder.layers.{i}.attention.layer_norm", "layers.{i}.mixer_norm"),
        Same("encoder.layers.{i}.attention.output.dense", "layers.{i}.mixer.out"),
        Same("encoder.layers.{i}.feed_forward.layer_norm", "layers.{i}.mlp_norm"),
        Same("encoder.layers.{i}.feed_forward.dense.dense", "layers.{i}.mlp.up"),
        Same("encoder.layers.{i}.feed_forward.output.dense", "layers.{i}.mlp.down"),
    )
    yield Same("encoder.layer_norm", "final_norm")


def _language_model(c: ReformerConfig, predicts: Predicts) -> LanguageModel.Config:
    return PartwiseLanguageModel.Config.of(c, predicts=predicts, bias=True, at_once=c.chunk_size_lm_head)


LANGUAGE_MODEL_ROWS = (
    Same("lm_head.decoder.weight", "out.weight"),
    Alias("lm_head.decoder.bias", "bias"),
    Same("lm_head.bias", "bias"),
)


class NarrowedClassification(SequenceClassification):
    """Its hidden layer is as wide as one stream."""

    def __init__(self, config: SequenceClassification.Config) -> None:
        super().__init__(config)
        one = config.hidden_size // 2
        self.dense = type(self.out)(config.hidden_size, one)
        self.out = type(self.out)(one, config.num_labels)


def _classification(c: ReformerConfig) -> SequenceClassification.Config:
    dropout = c.hidden_dropout_prob if c.classifier_dropout is None else c.classifier_dropout
    return NarrowedClassification.Config.of(c, reads="first", dense="tanh", dense_dropout=dropout, dropout=dropout)


REFORMER = Architecture(
    tasks=declare_tasks(
        "Reformer",
        "reformer",
        reformer_plan,
        reformer_rows,
        {
            "masked-lm": TaskHead("ForMaskedLM", partial(_language_model, predicts="hidden"), LANGUAGE_MODEL_ROWS),
            "causal-lm": TaskHead("ModelWithLMHead", partial(_language_model, predicts="next"), LANGUAGE_MODEL_ROWS),
            "sequence-classification": TaskHead(
                "ForSequenceClassification",
                _classification,
                (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out")),
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)
            ),
        },
    ),
    prefixes=("reformer",),
    initialization=lambda c: Initialization(c.initializer_range, {"*positions.weights.*": c.axial_norm_std}),
)
