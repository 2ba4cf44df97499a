"""Fnet (https://arxiv.org/abs/2105.03824)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, for_layers
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import BERT_LANGUAGE_MODEL_ROWS, LAYER, NATIVE, bert_rows
from eir_seq.models.families.bert.plan import bert_embeddings
from eir_seq.models.families.fnet.fourier import Fourier
from eir_seq.models.families.fnet.options import FNetConfig
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import LayerPlan, PostNorm


class ProjectedEmbeddings(Embeddings):
    """Embeddings with a linear layer between norm and dropout."""

    def __init__(self, config: Embeddings.Config) -> None:
        super().__init__(replace(config, dropout=0.0))
        self.project = Linear(config.hidden_size, config.hidden_size)
        self.projected_dropout = Dropout(config.dropout)

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


def fnet_plan(c: FNetConfig, *, pooler: bool = True) -> StackPlan:  # noqa: ARG001
    """Bert's layers with a Fourier transform; without dropout. All classes have the pooler."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    layer = LayerPlan(
        residual=PostNorm,
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
        embeddings=ProjectedEmbeddings.Config(**vars(bert_embeddings(c))),
        layers=(layer,) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size),
        packable=False,
    )


def fnet_rows(c: FNetConfig) -> Iterator[Row]:
    """Bert's key map, the projection and the norms."""
    yield Same("embeddings.projection", "embeddings.project")
    yield from for_layers(c.num_hidden_layers, Same(LAYER + "fourier.output.LayerNorm", NATIVE + "mixer_norm"))
    yield from bert_rows(c)


FNET = replace(
    bert_like(
        "FNet",
        "fnet",
        fnet_plan,
        fnet_rows,
        own={"causal-lm": None},
        language_model_rows=(Alias("cls.predictions.decoder.bias", "bias"), *BERT_LANGUAGE_MODEL_ROWS),
    ),
    ignored=(r"\.dft_mat_(hidden|seq)$",),
)
