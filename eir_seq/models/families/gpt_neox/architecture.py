"""Gpt_neox (https://arxiv.org/abs/2204.06745) and gpt_neox_japanese (https://github.com/tanreinama/gpt-neox-japanese)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.gpt_neox.options import GPTNeoXConfig, GPTNeoXJapaneseConfig, LikeGPTNeoX
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.rope_scaling import rope_scaling_of
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.residual import LayerPlan, Parallel, PreNorm


def _attention(c: LikeGPTNeoX, *, bias: bool, out_bias: bool) -> Attention.Config:
    return Attention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        bias=bias,
        out_bias=out_bias,
        causal=True,
        dropout=c.attention_dropout,
        rotary=Rotary(
            base=c.rotary_emb_base,
            fraction=c.rotary_pct,
            scaling=rope_scaling_of(c.rope_scaling, c.max_position_embeddings),
        ),
    )


def gpt_neox_plan(c: GPTNeoXConfig) -> StackPlan:
    """Token table, layers whose sublayers are side by side (or one after the other), a final norm."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    layer = LayerPlan(
        residual=Parallel if c.use_parallel_residual else PreNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=_attention(c, bias=c.attention_bias, out_bias=c.attention_bias),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
        dropout=c.hidden_dropout,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size, dropout=c.hidden_dropout),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=norm,
        cached=c.use_cache,
    )


def gpt_neox_japanese_plan(c: GPTNeoXJapaneseConfig) -> StackPlan:
    """Without biases, but for that of the last layer's attention."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    inner_size = c.hidden_size * c.intermediate_multiple_size
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size),
        layers=tuple(
            LayerPlan(
                residual=PreNorm,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=_attention(c, bias=False, out_bias=i == c.num_hidden_layers - 1),
                mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=inner_size, activation=c.hidden_act, bias=False),
                dropout=c.hidden_dropout,
            )
            for i in range(c.num_hidden_layers)
        ),
        final_norm=norm,
        cached=c.use_cache,
    )


LAYER, NATIVE = "layers.{i}.", "layers.{i}."
OUT = Same(LAYER + "attention.dense", NATIVE + "mixer.out")
JAPANESE_OUT = (
    Same(LAYER + "attention.dense.weight", NATIVE + "mixer.out.weight"),
    Same(LAYER + "attention.dense_bias", NATIVE + "mixer.out.bias"),
)


def _rows(c: LikeGPTNeoX, *out: Row) -> Iterator[Row]:
    yield Same("embed_in", "embeddings.tokens")
    projections = (NATIVE + "mixer.query", NATIVE + "mixer.key", NATIVE + "mixer.value")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "input_layernorm", NATIVE + "mixer_norm"),
        Fused(LAYER + "attention.query_key_value", projections, groups=c.num_attention_heads),
        *out,
        Same(LAYER + "post_attention_layernorm", NATIVE + "mlp_norm"),
        Same(LAYER + "mlp.dense_h_to_4h", NATIVE + "mlp.up"),
        Same(LAYER + "mlp.dense_4h_to_h", NATIVE + "mlp.down"),
    )
    yield Same("final_layer_norm", "final_norm")


def _token_classification(c: GPTNeoXConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=c.classifier_dropout)


CAUSAL_LM = TaskHead("ForCausalLM", next_token, (Same("embed_out", "out"),))
OLD_BUFFERS = (r"(^|\.)attention\.(bias|masked_bias)$", r"(^|\.)rotary_emb\.(cos|sin)_cached$")
"""What older files hold besides parameters: causal masks and tables of rotary embeddings."""

GPT_NEOX = Architecture(
    tasks=declare_tasks(
        "GPTNeoX",
        "gpt_neox",
        gpt_neox_plan,
        lambda c: _rows(c, OUT),
        {
            "causal-lm": CAUSAL_LM,
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
            "token-classification": TaskHead(
                "ForTokenClassification", _token_classification, (Same("classifier", "out"),)
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering",
                QuestionAnswering.Config.of,
                (Same("qa_outputs", "out"),),
            ),
        },
    ),
    prefixes=("gpt_neox",),
    initialization=lambda c: Initialization(c.initializer_range),
    ignored=OLD_BUFFERS,
)

GPT_NEOX_JAPANESE = Architecture(
    tasks=declare_tasks(
        "GPTNeoXJapanese",
        "gpt_neox_japanese",
        gpt_neox_japanese_plan,
        lambda c: _rows(c, *JAPANESE_OUT),
        {"causal-lm": CAUSAL_LM},
    ),
    prefixes=("gpt_neox_japanese",),
    initialization=lambda c: Initialization(c.initializer_range),
    ignored=OLD_BUFFERS,
)
