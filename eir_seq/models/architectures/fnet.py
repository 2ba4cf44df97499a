"""Fnet (https://arxiv.org/abs/2105.03824)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.bert import (
    BERT_LANGUAGE_MODEL_ROWS,
    BERT_PRETRAINING_ROWS,
    bert_classification,
    bert_heads,
    bert_initialization,
    bert_language_model,
    bert_pretraining,
    next_sentence,
)
from eir_seq.models.blocks.embeddings import Embeddings
from eir_seq.models.blocks.fourier import Fourier
from eir_seq.models.blocks.linear import Linear
from eir_seq.models.blocks.mlp import Mlp
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import LearnedPositions
from eir_seq.models.blocks.wiring import LayerPlan, PostNorm
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.configs.special_inputs import FNetConfig
from eir_seq.models.frames.stack import FirstTokenPooler, StackPlan


class ProjectedEmbeddings(Embeddings):
    """Embeddings with a linear layer between norm and dropout."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """As that of `Embeddings`."""

        def build(self) -> ProjectedEmbeddings:
            """The tables and the linear layer."""
            return ProjectedEmbeddings(self)

    def __init__(self, config: Embeddings.Config) -> None:
        super().__init__(replace(config, dropout=0.0))
        self.project = Linear(config.hidden_size, config.hidden_size)
        self.projected_dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],
    ) -> Tensor:
        """As `Embeddings.forward`."""
        x: Tensor = self.projected_dropout(super().forward(ids, vectors, positions, segments, features))
        return x


def fnet_plan(c: FNetConfig) -> StackPlan:
    """Bert's layers with a Fourier transform; nothing is dropped out of it. All classes have the pooler."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    layer = LayerPlan(
        wiring=PostNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Fourier.Config(
            hidden_size=c.hidden_size, matrix_length=c.tpu_short_seq_length if c.by_matrices() else None
        ),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
        dropout=c.hidden_dropout_prob,
        mixer_dropout=0.0,
    )
    return StackPlan(
        embeddings=ProjectedEmbeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            positions=LearnedPositions.Config(count=c.max_position_embeddings),
            num_segments=c.type_vocab_size,
            norm=norm,
            dropout=c.hidden_dropout_prob,
            padding_id=c.pad_token_id,
        ),
        layers=(layer,) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size),
        packable=False,
    )


LAYER, OURS = "encoder.layer.{i}.", "layers.{i}."


def fnet_rows(c: FNetConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("embeddings.word_embeddings", "embeddings.tokens")
    yield Same("embeddings.position_embeddings", "embeddings.positions")
    yield Same("embeddings.token_type_embeddings", "embeddings.segments")
    yield Same("embeddings.LayerNorm", "embeddings.norm")
    yield Same("embeddings.projection", "embeddings.project")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "fourier.output.LayerNorm", OURS + "mixer_norm"),
        Same(LAYER + "intermediate.dense", OURS + "mlp.up"),
        Same(LAYER + "output.dense", OURS + "mlp.down"),
        Same(LAYER + "output.LayerNorm", OURS + "mlp_norm"),
    )
    yield Same("pooler.dense", "pooler.dense")


FNET = Architecture(
    tasks=declare_tasks(
        "FNet",
        "fnet",
        fnet_plan,
        fnet_rows,
        {
            "masked-lm": TaskHead(
                "ForMaskedLM", partial(bert_language_model, predicts="hidden"), BERT_LANGUAGE_MODEL_ROWS
            ),
            "next-sentence": TaskHead(
                "ForNextSentencePrediction", next_sentence, (Same("cls.seq_relationship", "out"),)
            ),
            "pretraining": TaskHead("ForPreTraining", bert_pretraining, BERT_PRETRAINING_ROWS),
            **bert_heads(bert_classification, fnet_plan, (Same("classifier", "out"),), choice_plan=fnet_plan),
        },
    ),
    prefixes=("fnet",),
    initialization=bert_initialization,
    ignored=(r"^cls\.predictions\.decoder\.bias$", r"\.dft_mat_(hidden|seq)$"),
)
