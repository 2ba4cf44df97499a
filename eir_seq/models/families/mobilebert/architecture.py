"""Mobilebert (https://arxiv.org/abs/2004.02984)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, Unused, for_layers
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import next_sentence
from eir_seq.models.families.bert.keymap import LAYER, NATIVE, bert_rows, pretraining_rows
from eir_seq.models.families.mobilebert.layers import BottleneckLayer, FirstToken, TrigramEmbeddings, widens
from eir_seq.models.families.mobilebert.options import MobileBertConfig
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.pretraining import PreTraining
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm


class WidenedLanguageModel(LanguageModel):
    """Scores by the narrow token table, and by its own table for the channels that it lacks."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`table_size`: width of the token table."""

        table_size: int

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.out = Linear(config.table_size, config.vocab_size, bias=False)
        self.rest = nn.Parameter(torch.empty(config.hidden_size - config.table_size, config.vocab_size))

    def scores(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., vocabulary)."""
        assert self.dense is not None
        assert self.norm is not None
        x = self.norm(self.activation(self.dense(x)))
        narrow = self.out.in_features
        scores: Tensor = self.out(x[..., :narrow]) + x[..., narrow:] @ self.rest + self.bias
        return scores


def mobilebert_plan(c: MobileBertConfig, *, pooler: bool = True) -> StackPlan:
    """Thin layers on trigrams."""
    first = FirstTokenPooler.Config(c.hidden_size) if c.classifier_activation else FirstToken.Config()
    return StackPlan(
        embeddings=TrigramEmbeddings.Config(c),
        layers=(BottleneckLayer.Config(c),) * c.num_hidden_layers,
        pooler=first if pooler else None,
        embeds_padding=c.trigram_input,
    )


def mobilebert_rows(c: MobileBertConfig) -> Iterator[Row]:
    """Bert's key map, bottlenecks and further blocks."""
    if widens(c):
        yield Same("embeddings.embedding_transformation", "embeddings.project")
    else:
        yield Unused("embeddings.embedding_transformation.weight", (c.hidden_size, c.embedding_size))
        yield Unused("embeddings.embedding_transformation.bias", (c.hidden_size,))
    bottlenecks = (
        Same(LAYER + "bottleneck.input.dense", NATIVE + "input.dense"),
        Same(LAYER + "bottleneck.input.LayerNorm", NATIVE + "input.norm"),
        Same(LAYER + "bottleneck.attention.dense", NATIVE + "shared.dense"),
        Same(LAYER + "bottleneck.attention.LayerNorm", NATIVE + "shared.norm"),
        Same(LAYER + "output.bottleneck.dense", NATIVE + "output"),
        Same(LAYER + "output.bottleneck.LayerNorm", NATIVE + "output_norm"),
    )
    last = c.num_feedforward_networks - 1
    blocks = tuple(
        Same(LAYER + block + published, NATIVE + native)
        for place in range(last + 1)
        for block in ("" if place == last else f"ffn.{place}.",)
        for published, native in (
            ("intermediate.dense", f"mlps.{place}.up"),
            ("output.dense", f"mlps.{place}.down"),
            ("output.LayerNorm", f"mlp_norms.{place}"),
        )
    )
    yield from for_layers(c.num_hidden_layers, *bottlenecks, *blocks)
    yield from bert_rows(c)


def mobilebert_language_model(c: MobileBertConfig, predicts: Predicts) -> WidenedLanguageModel.Config:
    """Hidden layer, activation and layer norm, then scores."""
    return WidenedLanguageModel.Config.of(
        c,
        predicts=predicts,
        table_size=c.embedding_size,
        dense=c.hidden_act,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        bias=True,
    )


def mobilebert_pretraining(c: MobileBertConfig) -> PreTraining.Config:
    """Hidden tokens and the order of texts, learned together."""
    return PreTraining.Config(tokens=mobilebert_language_model(c, "hidden"), pairs=next_sentence(c))


LANGUAGE_MODEL_ROWS = (
    Same("cls.predictions.transform.dense", "dense"),
    Same("cls.predictions.transform.LayerNorm", "norm"),
    Same("cls.predictions.decoder.weight", "out.weight"),
    Same("cls.predictions.dense.weight", "rest"),
    Same("cls.predictions.bias", "bias"),
    Alias("cls.predictions.decoder.bias", "bias"),
)

MOBILEBERT = bert_like(
    "MobileBert",
    "mobilebert",
    mobilebert_plan,
    mobilebert_rows,
    own={
        "causal-lm": None,
        "pretraining": TaskHead("ForPreTraining", mobilebert_pretraining, pretraining_rows(LANGUAGE_MODEL_ROWS)),
    },
    language_model=mobilebert_language_model,
    language_model_rows=LANGUAGE_MODEL_ROWS,
)
