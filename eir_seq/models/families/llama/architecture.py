"""Llama (https://arxiv.org/abs/2302.13971), and what other decoders with rotary embeddings share with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.llama.options import LlamaConfig, RotaryDecoderConfig
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Part, Sized
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.positions.rope_scaling import rope_scaling_of
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.residual import Layer, LayerPlan, PreNorm


def rotary(c: RotaryDecoderConfig, kind: type[Rotary] = Rotary) -> Rotary:
    """RoPE, scaled as `rope_scaling` says; `kind`: which channels are paired."""
    scaling = rope_scaling_of(c.rope_scaling, c.max_position_embeddings, c.original_max_position_embeddings)
    return kind(base=c.rope_theta, fraction=c.rotary_share, scaling=scaling)


def attention(c: RotaryDecoderConfig, *, bias: bool, out_bias: bool, **more: Any) -> Attention.Config:
    """Causal grouped-query attention with RoPE."""
    return Attention.Config(
        **{
            "hidden_size": c.hidden_size,
            "num_heads": c.num_attention_heads,
            "head_size": c.width_of_head,
            "num_kv_heads": c.kv_heads,
            "bias": bias,
            "out_bias": out_bias,
            "causal": True,
            "dropout": c.attention_dropout,
            "rotary": rotary(c),
            **more,
        }
    )


def feed_forward(c: RotaryDecoderConfig, *, gated: bool, bias: bool) -> Mlp.Config:
    """The feed-forward block."""
    return Mlp.Config(
        hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act, gated=gated, bias=bias
    )


def llama_plan(
    c: RotaryDecoderConfig,
    *,
    norm: Sized,
    mixer: Attention.Config,
    mlp: Part,
    residual: type[Layer] = PreNorm,
    windows: tuple[int | None, ...] | None = None,
    layer_dropout: float = 0.0,
    mixer_dropout: float | None = None,
    output_router_logits: bool | None = None,
    **of_embeddings: Any,
) -> StackPlan:
    """Token table, layers of attention and feed-forward block, a final norm.

    `windows`: per layer, how many tokens are seen, None for the whole text; by default as `mixer` says.
    `layer_dropout`: on what every sublayer adds; `mixer_dropout` overrides it for attention.
    """
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size, hidden_size=c.hidden_size, padding_id=c.pad_token_id, **of_embeddings
        ),
        layers=tuple(
            LayerPlan(
                residual=residual,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=replace(mixer, window=window),
                mlp=mlp,
                dropout=layer_dropout,
                mixer_dropout=mixer_dropout,
            )
            for window in windows or (mixer.window,) * c.num_hidden_layers
        ),
        final_norm=norm,
        cached=c.use_cache,
        output_router_logits=output_router_logits,
    )


QKV = {"self_attn.q_proj": "mixer.query", "self_attn.k_proj": "mixer.key", "self_attn.v_proj": "mixer.value"}

ATTENTION = {**QKV, "self_attn.o_proj": "mixer.out"}

GATED = {"mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}

NORMS = {"input_layernorm": "mixer_norm", "post_attention_layernorm": "mlp_norm"}

LAYER = "layers.{i}."


def decoder_rows(
    c: RotaryDecoderConfig, modules: Mapping[str, str], *more: Row, final_norm: str = "norm"
) -> Iterator[Row]:
    """The key map of a body.

    `modules`: published names in a layer -> native; `more`: further rows of a layer, with whole names.
    """
    yield Same("embed_tokens", "embeddings.tokens")
    yield from for_layers(
        c.num_hidden_layers, *(Same(LAYER + published, LAYER + native) for published, native in modules.items()), *more
    )
    yield Same(final_norm, "final_norm")


def llama_rows(c: RotaryDecoderConfig) -> Iterator[Row]:
    """The key map of llama's body."""
    return decoder_rows(c, {**NORMS, **ATTENTION, **GATED})


def _token_classification(c: RotaryDecoderConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=getattr(c, "hidden_dropout", 0.1))


HEADS = {
    "causal-lm": TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),)),
    "sequence-classification": TaskHead(
        "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
    ),
    "token-classification": TaskHead("ForTokenClassification", _token_classification, (Same("score", "out"),)),
}


def question_answering(prefix: str) -> dict[str, TaskHead]:
    """The head of span ends; what precedes the body's published names differs there."""
    rows = (Same("qa_outputs", "out"),)
    return {"question-answering": TaskHead("ForQuestionAnswering", QuestionAnswering.Config.of, rows, prefix=prefix)}


def initialization(c: RotaryDecoderConfig) -> Initialization:
    """Normal weights of one standard deviation."""
    return Initialization(c.initializer_range)


def _llama_plan(c: LlamaConfig) -> StackPlan:
    return llama_plan(
        c,
        norm=RMSNorm.Config(eps=c.rms_norm_eps),
        mixer=attention(c, bias=c.attention_bias, out_bias=c.attention_bias),
        mlp=feed_forward(c, gated=True, bias=c.mlp_bias),
    )


LLAMA = Architecture(
    tasks=declare_tasks("Llama", "model", _llama_plan, llama_rows, {**HEADS, **question_answering("transformer")}),
    prefixes=("model", "transformer"),
    initialization=initialization,
)
