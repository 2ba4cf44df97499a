"""Distilbert (https://arxiv.org/abs/1910.01108)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.distilbert.options import DistilBertConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice, QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions, SinusoidalPositions
from eir_seq.models.layers.residual import LayerPlan, PostNorm

NORM = LayerNorm.Config(eps=1e-12)


def distilbert_plan(c: DistilBertConfig) -> StackPlan:
    """Bert's layers without segments and pooler; no dropout on the output of attention."""
    table = SinusoidalPositions.Config if c.sinusoidal_pos_embds else LearnedPositions.Config
    layer = LayerPlan(
        residual=PostNorm,
        hidden_size=c.dim,
        norm=NORM,
        mixer=Attention.Config(hidden_size=c.dim, num_heads=c.n_heads, dropout=c.attention_dropout),
        mlp=Mlp.Config(hidden_size=c.dim, inner_size=c.hidden_dim, activation=c.activation),
        dropout=c.dropout,
        mixer_dropout=0.0,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.dim,
            positions=table(count=c.max_position_embeddings),
            norm=NORM,
            dropout=c.dropout,
            padding_id=c.pad_token_id,
        ),
        layers=(layer,) * c.n_layers,
    )


LAYER, NATIVE = "transformer.layer.{i}.", "layers.{i}."


def distilbert_rows(c: DistilBertConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings.word_embeddings", "embeddings.tokens")
    yield Same("embeddings.position_embeddings", "embeddings.positions")
    yield Same("embeddings.LayerNorm", "embeddings.norm")
    yield from for_layers(
        c.n_layers,
        Same(LAYER + "attention.q_lin", NATIVE + "mixer.query"),
        Same(LAYER + "attention.k_lin", NATIVE + "mixer.key"),
        Same(LAYER + "attention.v_lin", NATIVE + "mixer.value"),
        Same(LAYER + "attention.out_lin", NATIVE + "mixer.out"),
        Same(LAYER + "sa_layer_norm", NATIVE + "mixer_norm"),
        Same(LAYER + "ffn.lin1", NATIVE + "mlp.up"),
        Same(LAYER + "ffn.lin2", NATIVE + "mlp.down"),
        Same(LAYER + "output_layer_norm", NATIVE + "mlp_norm"),
    )


def _classification(c: DistilBertConfig) -> SequenceClassification.Config:
    return SequenceClassification.Config.of(c, reads="first", dense="relu", dropout=c.seq_classif_dropout)


def _language_model(c: DistilBertConfig) -> LanguageModel.Config:
    return LanguageModel.Config.of(c, predicts="hidden", dense=c.activation, norm=NORM, bias=True)


DISTILBERT = Architecture(
    tasks=declare_tasks(
        "DistilBert",
        "distilbert",
        distilbert_plan,
        distilbert_rows,
        {
            "masked-lm": TaskHead(
                "ForMaskedLM",
                _language_model,
                (
                    Same("vocab_transform", "dense"),
                    Same("vocab_layer_norm", "norm"),
                    Same("vocab_projector.weight", "out.weight"),
                    Same("vocab_projector.bias", "bias"),
                ),
            ),
            "sequence-classification": TaskHead(
                "ForSequenceClassification",
                _classification,
                (Same("pre_classifier", "dense"), Same("classifier", "out")),
            ),
            "token-classification": TaskHead(
                "ForTokenClassification",
                lambda c: TokenClassification.Config.of(c, dropout=c.dropout),
                (Same("classifier", "out"),),
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering",
                lambda c: QuestionAnswering.Config.of(c, dropout=c.qa_dropout),
                (Same("qa_outputs", "out"),),
            ),
            "multiple-choice": TaskHead(
                "ForMultipleChoice",
                partial(MultipleChoice.Config.by, one=_classification),
                (Same("pre_classifier", "one.dense"), Same("classifier", "one.out")),
            ),
        },
    ),
    prefixes=("distilbert",),
    initialization=lambda c: Initialization(c.initializer_range),
)
