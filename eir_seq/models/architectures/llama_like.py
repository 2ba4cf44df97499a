"""Llama (https://arxiv.org/abs/2302.13971) and decoders of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.rope import rotary_scaling
from eir_seq.models.blocks.attention import Attention
from eir_seq.models.blocks.build import Sized
from eir_seq.models.blocks.embeddings import Embeddings
from eir_seq.models.blocks.mlp import Mlp
from eir_seq.models.blocks.norms import CenteredRMSNorm, RMSNorm
from eir_seq.models.blocks.positions import Rotary
from eir_seq.models.blocks.wiring import LayerPlan, PreNorm
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.configs.llama_like import GemmaConfig, LlamaConfig, LlamaLikeConfig
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization


def rotary(c: LlamaLikeConfig) -> Rotary:
    """Rotations of whole heads, slowed down as `rope_scaling` says."""
    scaling = rotary_scaling(c.rope_scaling, c.max_position_embeddings, c.original_max_position_embeddings)
    return Rotary(base=c.rope_theta, scaling=scaling)


def llama_plan(
    c: LlamaLikeConfig,
    *,
    bias: bool = False,
    out_bias: bool = False,
    mlp_bias: bool = False,
    norm: Sized | None = None,
    **of_embeddings: Any,
) -> StackPlan:
    """Token table, layers with norms in front and gated feed-forward blocks, a final norm."""
    norm = norm or RMSNorm.Config(eps=c.rms_norm_eps)
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size, hidden_size=c.hidden_size, padding_id=c.pad_token_id, **of_embeddings
        ),
        layers=tuple(
            LayerPlan(
                wiring=PreNorm,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=Attention.Config(
                    hidden_size=c.hidden_size,
                    num_heads=c.num_attention_heads,
                    head_size=c.width_of_head,
                    num_kv_heads=c.num_key_value_heads,
                    bias=bias,
                    out_bias=out_bias,
                    causal=True,
                    dropout=c.attention_dropout,
                    rotary=rotary(c),
                ),
                mlp=Mlp.Config(
                    hidden_size=c.hidden_size,
                    inner_size=c.intermediate_size,
                    activation=c.hidden_act,
                    gated=True,
                    bias=mlp_bias,
                ),
            )
            for _ in range(c.num_hidden_layers)
        ),
        final_norm=norm,
        cached=c.use_cache,
    )


LAYER, OURS = "layers.{i}.", "layers.{i}."


def llama_rows(c: LlamaLikeConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("embed_tokens", "embeddings.tokens")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "input_layernorm", OURS + "mixer_norm"),
        Same(LAYER + "self_attn.q_proj", OURS + "mixer.query"),
        Same(LAYER + "self_attn.k_proj", OURS + "mixer.key"),
        Same(LAYER + "self_attn.v_proj", OURS + "mixer.value"),
        Same(LAYER + "self_attn.o_proj", OURS + "mixer.out"),
        Same(LAYER + "post_attention_layernorm", OURS + "mlp_norm"),
        Same(LAYER + "mlp.gate_proj", OURS + "mlp.gate"),
        Same(LAYER + "mlp.up_proj", OURS + "mlp.up"),
        Same(LAYER + "mlp.down_proj", OURS + "mlp.down"),
    )
    yield Same("norm", "final_norm")


def _language_model(c: LlamaLikeConfig) -> LanguageModel.Config:
    return LanguageModel.Config.of(c, predicts="next")


def _classification(c: LlamaLikeConfig) -> SequenceClassification.Config:
    return SequenceClassification.Config.of(c, reads="last", bias=False, marker_id=c.pad_token_id)


def _token_classification(c: LlamaLikeConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=0.1)


HEADS = {
    "causal-lm": TaskHead("ForCausalLM", _language_model, (Same("lm_head", "out"),)),
    "sequence-classification": TaskHead("ForSequenceClassification", _classification, (Same("score", "out"),)),
    "token-classification": TaskHead("ForTokenClassification", _token_classification, (Same("score", "out"),)),
}
QUESTION_ANSWERING = {
    "question-answering": TaskHead(
        "ForQuestionAnswering",
        QuestionAnswering.Config.of,
        (Same("qa_outputs", "out"),),
        prefix="transformer",
    )
}


def _llama_plan(c: LlamaConfig) -> StackPlan:
    return llama_plan(c, bias=c.attention_bias, out_bias=c.attention_bias, mlp_bias=c.mlp_bias)


LLAMA = Architecture(
    tasks=declare_tasks("Llama", "model", _llama_plan, llama_rows, {**HEADS, **QUESTION_ANSWERING}),
    prefixes=("model", "transformer"),
    initialization=lambda c: Initialization(c.initializer_range),
)


def _gemma_plan(c: GemmaConfig) -> StackPlan:
    norm = CenteredRMSNorm.Config(eps=c.rms_norm_eps)
    return llama_plan(c, bias=c.attention_bias, out_bias=c.attention_bias, norm=norm, scale=c.hidden_size**0.5)


def _gemma_rows(c: GemmaConfig) -> Iterator[Row]:
    for row in llama_rows(c):
        if isinstance(row, Same) and row.ours.endswith("norm"):
            yield Same(f"{row.theirs}.weight", f"{row.ours}.excess")
        else:
            yield row


GEMMA = Architecture(
    tasks=declare_tasks("Gemma", "model", _gemma_plan, _gemma_rows, HEADS),
    prefixes=("model",),
    initialization=lambda c: Initialization(c.initializer_range, {"*.excess": 0.0}),
)
