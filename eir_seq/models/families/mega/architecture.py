"""Mega (https://arxiv.org/abs/2209.10655)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Constant, Row, Same, Tree, for_layers
from eir_seq.models.families.mega.attention import MegaAttention, RotaryDistances, SimpleDistances
from eir_seq.models.families.mega.moving_average import ExponentialMovingAverage
from eir_seq.models.families.mega.options import MegaConfig
from eir_seq.models.families.mega.sequence_norm import SequenceNorm
from eir_seq.models.families.mega.text_dropout import TextDropout
from eir_seq.models.families.roberta.architecture import roberta_classification, roberta_heads
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.layout import Layout


class MegaMlp(Mlp):
    """A feed-forward block that may drop whole channels of a text."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Mlp.Config):
        """`outer_dropout`: on what leaves the block."""

        outer_dropout: float
        drops_channels: bool

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.inner_dropout = TextDropout(config.inner_dropout, config.drops_channels)  # type: ignore[assignment]
        self.dropout = TextDropout(config.outer_dropout, config.drops_channels)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:  # type: ignore[override]
        """States of the layout -> the same."""
        return self.dropout(self.down(self.inner_dropout(self.activation(self.up(x)), layout)), layout)


class MegaLayer(Configured):
    """Mega's attention and an optional feed-forward block, each pre-norm or post-norm."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`norms_first`: of the attention; `mlp_norms_first`: of the feed-forward block."""

        hidden_size: int
        norm: SequenceNorm.Config
        norms_first: bool
        mixer: MegaAttention.Config
        mlp: MegaMlp.Config | None
        mlp_norms_first: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.mixer = config.mixer.build()
        self.mixer_norm = config.norm.build(config.hidden_size)
        self.mlp = config.mlp.build() if config.mlp else None
        self.mlp_norm = config.norm.build(config.hidden_size) if config.mlp else None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        layout, config = ctx.layout, self.config
        x = self.mixer(self.mixer_norm(x, layout) if config.norms_first else x, x, ctx)
        x = x if config.norms_first else self.mixer_norm(x, layout)
        if self.mlp is None or self.mlp_norm is None:
            return x
        if config.mlp_norms_first:
            return x + self.mlp(self.mlp_norm(x, layout), layout)
        normed: Tensor = self.mlp_norm(x + self.mlp(x, layout), layout)
        return normed


def mega_layer(c: MegaConfig) -> MegaLayer.Config:
    """A layer; all are alike."""
    simple = SimpleDistances.Config(max_positions=c.max_positions, longest=c.distance_limit())
    mlp = MegaMlp.Config(
        hidden_size=c.hidden_size,
        inner_size=c.nffn_hidden_size,
        activation=c.activation,
        inner_dropout=c.nffn_activation_dropout_prob,
        outer_dropout=c.dropout_prob,
        drops_channels=c.use_feature_dropout,
    )
    return MegaLayer.Config(
        hidden_size=c.hidden_size,
        norm=SequenceNorm.Config(kind=c.normalization_type, affine=c.norm_affine),
        norms_first=c.normalize_before_mega,
        mixer=MegaAttention.Config(
            average=ExponentialMovingAverage.Config(
                hidden_size=c.hidden_size,
                dimensions=c.ema_projection_size,
                bidirectional=c.bidirectional,
                reach=c.truncation,
            ),
            shared_size=c.shared_representation_size,
            inner_size=c.intermediate_size,
            distances=simple if simple_biases(c) else RotaryDistances.Config(size=c.shared_representation_size),
            weighting=c.attention_activation,
            chunk=c.chunk_size if c.use_chunking else None,
            causal=c.is_decoder,
            activation=c.activation,
            dropout=c.dropout_prob,
            value_dropout=c.hidden_dropout_prob,
            weight_dropout=c.attention_probs_dropout_prob,
            drops_channels=c.use_feature_dropout,
        ),
        mlp=mlp if c.use_normalized_ffn else None,
        mlp_norms_first=c.normalize_before_ffn,
    )


def simple_biases(c: MegaConfig) -> bool:
    """Whether each distance has its own number."""
    return c.relative_positional_bias == "simple"


def mega_plan(c: MegaConfig, *, pooler: bool = True) -> StackPlan:
    """A token table without positions, layers of averaged attention, a pooler of the first token."""
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            num_segments=c.type_vocab_size if c.add_token_type_embeddings else 0,
            padding_id=c.pad_token_id,
        ),
        layers=(mega_layer(c),) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        cached=c.is_decoder and c.use_cache,
    )


PUBLISHED, NATIVE = "layers.{i}.mega_layer.", "layers.{i}.mixer."
PAIRS = (
    ("ema_gate.damping_factor", "average.damping"),
    ("ema_gate.decay_factor", "average.decay"),
    ("ema_gate.ema_expansion_matrix", "average.expansion"),
    ("ema_gate.kernel_projection_matrix", "average.projection"),
    ("ema_gate.residual_weight", "average.residual"),
    ("v_proj", "value"),
    ("mx_proj", "entry"),
    ("h_proj", "out"),
    ("qk_weight", "query_key_scale"),
    ("qk_bias", "query_key_shift"),
    ("rel_pos_bias.alpha", "distances.query"),
    ("rel_pos_bias.b_param", "distances.key"),
    ("rel_pos_bias.rel_pos_bias", "distances.table"),
)


def mega_rows(c: MegaConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embedding_layer.word_embeddings", "embeddings.tokens")
    yield Same("embedding_layer.token_type_embeddings", "embeddings.segments")
    for published, native in ((PUBLISHED, "layers.{i}.mixer_norm"), ("layers.{i}.nffn.", "layers.{i}.mlp_norm")):
        if c.normalization_type == "scalenorm":
            yield from for_layers(c.num_hidden_layers, Same(published + "norm.norm.scalar", native + ".weight"))
        else:
            yield from for_layers(c.num_hidden_layers, Tree(published + "norm.norm", native))
    yield from for_layers(
        c.num_hidden_layers,
        *(Same(PUBLISHED + published, NATIVE + native) for published, native in PAIRS),
        Same("layers.{i}.nffn.fc1", "layers.{i}.mlp.up"),
        Same("layers.{i}.nffn.fc2", "layers.{i}.mlp.down"),
    )
    if not simple_biases(c):
        for i in range(c.num_hidden_layers):  # marks a device in the published class
            yield Constant(PUBLISHED.format(i=i) + "rel_pos_bias._float_tensor", torch.zeros(1))
    yield Same("pooler.dense", "pooler.dense")


@dataclass(frozen=True, kw_only=True)
class MegaInitialization(Initialization):
    """Deviations of its own for averages, whose expansion alternates in sign."""

    @torch.no_grad()
    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        if name.endswith("query_key_shift"):
            parameter.zero_()
            return
        super()._set(module, name, parameter)
        if name.endswith("average.expansion"):
            parameter[:, 0::2] += 1
            parameter[:, 1::2] -= 1


def mega_initialization(c: MegaConfig) -> MegaInitialization:
    """Normal weights; see `MegaInitialization`."""
    ranges = {
        "damping": c.ema_delta_alpha_range,
        "decay": c.ema_delta_alpha_range,
        "expansion": c.ema_beta_range,
        "projection": c.ema_gamma_omega_range,
        "residual": c.ema_gamma_omega_range,
    }
    return MegaInitialization(c.initializer_range, {f"*.average.{name}": std for name, std in ranges.items()})


def _language_model(c: MegaConfig, predicts: Predicts) -> LanguageModel.Config:
    dense = "tanh" if c.add_lm_hidden_dense_layer else None
    return LanguageModel.Config.of(c, predicts=predicts, dense=dense, bias=True)


def _language_model_head(name: str, predicts: Predicts, out: str) -> TaskHead:
    rows = (Same("dense", "dense"), Same(f"{out}.weight", "out.weight"), Same(f"{out}.bias", "bias"))
    return TaskHead(name, partial(_language_model, predicts=predicts), rows, without_pooler)


without_pooler = partial(mega_plan, pooler=False)

MEGA = Architecture(
    tasks=declare_tasks(
        "Mega",
        "mega",
        mega_plan,
        mega_rows,
        {
            "masked-lm": _language_model_head("ForMaskedLM", "hidden", "mlm_head"),
            "causal-lm": _language_model_head("ForCausalLM", "next", "lm_head"),
            **roberta_heads(roberta_classification, without_pooler, mega_plan),
        },
    ),
    prefixes=("mega",),
    initialization=mega_initialization,
)
