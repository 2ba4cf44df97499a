"""Albert (https://arxiv.org/abs/1909.11942)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same
from eir_seq.models.families.albert.options import AlbertConfig
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_classification, bert_language_model
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_attention, bert_embeddings, bert_layer, bert_plan
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.pretraining import PreTraining
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.positions.relative import LearnedDistances
from eir_seq.models.layers.residual import LayerPlan


class LayerGroup(Configured):
    """Layers that always run one after the other; a head mask of the run holds for each of them."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """`layers`: their plans."""

        layers: tuple[LayerPlan, ...]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.inner = nn.ModuleList(layer.build() for layer in config.layers)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        for layer in self.inner:
            x = layer(x, ctx)
        return x


class WholeDistances(LearnedDistances):
    """Learned distances that the scale of the scores does not shrink."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (batch, heads, queries, keys)."""
        return super().forward(query, key) * self.config.head_size**0.5


def albert_attention(c: AlbertConfig) -> Attention.Config:
    """Bert's attention; distances, if requested, enter the scores as they are."""
    plain = bert_attention(c)
    if not isinstance(plain.distances, LearnedDistances.Config):
        return plain
    return replace(plain, distances=WholeDistances.Config(**vars(plain.distances)))


def albert_plan(c: AlbertConfig, *, pooler: bool = True) -> StackPlan:
    """Narrow tables, and a few groups of layers that run again and again; only attention's output drops out."""
    layer = replace(bert_layer(c, mixer=albert_attention(c)), dropout=0.0, mixer_dropout=c.hidden_dropout_prob)
    runs, groups = c.num_hidden_layers, c.num_hidden_groups
    return replace(
        bert_plan(c, pooler=pooler),
        embeddings=replace(bert_embeddings(c), embedding_size=c.embedding_size, always_project=True),
        layers=(LayerGroup.Config((layer,) * c.inner_group_num),) * groups,
        schedule=tuple(run * groups // runs for run in range(runs)),
    )


NAMES = {
    "attention.query": "mixer.query",
    "attention.key": "mixer.key",
    "attention.value": "mixer.value",
    "attention.distance_embedding": "mixer.distances.table",
    "attention.dense": "mixer.out",
    "attention.LayerNorm": "mixer_norm",
    "ffn": "mlp.up",
    "ffn_output": "mlp.down",
    "full_layer_layer_norm": "mlp_norm",
}


def albert_rows(c: AlbertConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield from (row for row in bert_rows(c) if row.published.startswith("embeddings."))
    yield Same("encoder.embedding_hidden_mapping_in", "embeddings.project")
    for group in range(c.num_hidden_groups):
        for inner in range(c.inner_group_num):
            layer = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"
            yield from (Same(f"{layer}.{name}", f"layers.{group}.inner.{inner}.{own}") for name, own in NAMES.items())
    yield Same("pooler", "pooler.dense")


class SentenceOrderPreTraining(PreTraining):
    """Hidden tokens, and whether two texts are in order (section 3.1)."""

    targets = ("labels", "sentence_order_label")
    pairs_logits = "sop_logits"


def albert_language_model(c: AlbertConfig, predicts: Predicts) -> LanguageModel.Config:
    """Bert's, with a hidden layer as wide as the tables."""
    return replace(bert_language_model(c, predicts), embedding_size=c.embedding_size)


def albert_pretraining(c: AlbertConfig) -> PreTraining.Config:
    """The order of texts is classified like anything else."""
    order = replace(bert_classification(c), num_labels=2, problem_type="single_label_classification")
    return SentenceOrderPreTraining.Config(tokens=albert_language_model(c, "hidden"), pairs=order)


LANGUAGE_MODEL_ROWS = (
    Same("predictions.dense", "dense"),
    Same("predictions.LayerNorm", "norm"),
    Same("predictions.decoder.weight", "out.weight"),
    Alias("predictions.decoder.bias", "bias"),
    Same("predictions.bias", "bias"),
)

ALBERT = bert_like(
    "Albert",
    "albert",
    albert_plan,
    albert_rows,
    own={
        "causal-lm": None,
        "next-sentence": None,
        "pretraining": TaskHead(
            "ForPreTraining",
            albert_pretraining,
            (
                *(replace(row, native=f"tokens.{row.native}") for row in LANGUAGE_MODEL_ROWS),
                Same("sop_classifier.classifier", "pairs.out"),
            ),
        ),
    },
    language_model=albert_language_model,
    language_model_rows=LANGUAGE_MODEL_ROWS,
)
