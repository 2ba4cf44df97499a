"""Decoders that tell distances by falling scores.

Bloom (https://arxiv.org/abs/2211.05100) and mpt (https://www.databricks.com/blog/mpt-7b).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.decoder_heads import last_token_classification, next_token
from eir_seq.models.blocks.alibi import Alibi
from eir_seq.models.blocks.attention import Attention
from eir_seq.models.blocks.context import Context
from eir_seq.models.blocks.embeddings import Embeddings
from eir_seq.models.blocks.mlp import Mlp
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import CountAll
from eir_seq.models.blocks.wiring import Layer, LayerPlan, PreNorm
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.configs.bloom import BloomConfig, MptConfig
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization


def _token_classification(c: BloomConfig | MptConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=c.hidden_dropout if isinstance(c, BloomConfig) else 0.1)


HEADS = {
    "causal-lm": TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),)),
    "sequence-classification": TaskHead(
        "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
    ),
    "token-classification": TaskHead("ForTokenClassification", _token_classification, (Same("classifier", "out"),)),
    "question-answering": TaskHead("ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)),
}

# -------------------------------------------------------------------------------------------------------- bloom


class NormedResidual(Layer):
    """Norm in front of each sublayer; what is added to is normed too."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        x = self.mixer_norm(x)
        x = self.mlp_norm(x + self.mixer_dropout(self.mixer(x, ctx)))
        return x + self.dropout(self.mlp(x))


def bloom_plan(c: BloomConfig) -> StackPlan:
    """Normed token vectors, layers with norms in front, a final norm."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    layer = LayerPlan(
        wiring=NormedResidual if c.apply_residual_connection_post_layernorm else PreNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.hidden_size, num_heads=c.n_head, causal=True, dropout=c.attention_dropout, alibi=Alibi()
        ),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=4 * c.hidden_size, activation="gelu_pytorch_tanh"),
        dropout=c.hidden_dropout,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size, norm=norm),
        layers=(layer,) * c.n_layer,
        final_norm=norm,
        cached=c.use_cache,
    )


def bloom_rows(c: BloomConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("word_embeddings", "embeddings.tokens")
    yield Same("word_embeddings_layernorm", "embeddings.norm")
    theirs, ours = "h.{i}.", "layers.{i}."
    mixer = f"{ours}mixer."
    yield from for_layers(
        c.n_layer,
        Same(f"{theirs}input_layernorm", f"{ours}mixer_norm"),
        Fused(
            f"{theirs}self_attention.query_key_value",
            (f"{mixer}query", f"{mixer}key", f"{mixer}value"),
            groups=c.n_head,
        ),
        Same(f"{theirs}self_attention.dense", f"{mixer}out"),
        Same(f"{theirs}post_attention_layernorm", f"{ours}mlp_norm"),
        Same(f"{theirs}mlp.dense_h_to_4h", f"{ours}mlp.up"),
        Same(f"{theirs}mlp.dense_4h_to_h", f"{ours}mlp.down"),
    )
    yield Same("ln_f", "final_norm")


BLOOM = Architecture(
    tasks=declare_tasks("Bloom", "transformer", bloom_plan, bloom_rows, HEADS),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)

# ---------------------------------------------------------------------------------------------------------- mpt


class ClippingAttention(Attention):
    """Attention over queries, keys and values within a bound."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`bound`: their greatest absolute value."""

        bound: float

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.clip = nn.Hardtanh(-config.bound, config.bound)
        self.query_norm = self.key_norm = self.clip  # type: ignore[assignment]

    def _values(self, x: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        return self._heads(self.clip(self.value(x)))


def _mpt_attention(c: MptConfig) -> Attention.Config:
    parts: dict[str, Any] = {
        "hidden_size": c.d_model,
        "num_heads": c.n_heads,
        "bias": False,
        "out_bias": False,
        "causal": True,
        "scale": c.attention.softmax_scale,
        "dropout": c.attention.attn_pdrop,
        "alibi": Alibi(numbering=CountAll()),
    }
    bound = c.attention.clip_qkv
    return ClippingAttention.Config(**parts, bound=bound) if bound else Attention.Config(**parts)


def mpt_plan(c: MptConfig) -> StackPlan:
    """Token vectors, layers with norms in front, a final norm; no biases. Distances count padding inside a text too."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon, bias=False)
    layer = LayerPlan(
        wiring=PreNorm,
        hidden_size=c.d_model,
        norm=norm,
        mixer=_mpt_attention(c),
        mlp=Mlp.Config(hidden_size=c.d_model, inner_size=4 * c.d_model, bias=False),
        dropout=c.resid_pdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.d_model, dropout=c.emb_pdrop),
        layers=(layer,) * c.n_layers,
        final_norm=norm,
        cached=True,
    )


def mpt_rows(c: MptConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("wte", "embeddings.tokens")
    theirs, ours = "blocks.{i}.", "layers.{i}."
    mixer = f"{ours}mixer."
    yield from for_layers(
        c.n_layers,
        Same(f"{theirs}norm_1", f"{ours}mixer_norm"),
        Fused(f"{theirs}attn.Wqkv", (f"{mixer}query", f"{mixer}key", f"{mixer}value")),
        Same(f"{theirs}attn.out_proj", f"{mixer}out"),
        Same(f"{theirs}norm_2", f"{ours}mlp_norm"),
        Same(f"{theirs}ffn.up_proj", f"{ours}mlp.up"),
        Same(f"{theirs}ffn.down_proj", f"{ours}mlp.down"),
    )
    yield Same("norm_f", "final_norm")


def _mpt_language_model(c: MptConfig) -> LanguageModel.Config:
    return LanguageModel.Config.of(c, predicts="next", scale=1.0 if c.logit_scale is None else c.logit_scale)


MPT = Architecture(
    tasks=declare_tasks(
        "Mpt",
        "transformer",
        mpt_plan,
        mpt_rows,
        {**HEADS, "causal-lm": TaskHead("ForCausalLM", _mpt_language_model, (Same("lm_head", "out"),))},
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
