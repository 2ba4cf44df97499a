"""Decoders like llama with norms that centre: starcoder2, stablelm, phi, persimmon and cohere."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.decoder_heads import next_token
from eir_seq.models.architectures.llama_like import (
    ATTENTION,
    GATED,
    HEADS,
    LAYER,
    NORMS,
    QKV,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
    rotary,
)
from eir_seq.models.blocks.norms import HeadNorm, LayerNorm
from eir_seq.models.blocks.positions import NeighbourRotary
from eir_seq.models.blocks.wiring import ParallelOneNorm, PreNorm
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, Stacked
from eir_seq.models.configs.stablelm_like import (
    CohereConfig,
    PersimmonConfig,
    PhiConfig,
    StableLmConfig,
    Starcoder2Config,
)
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.language_model import LanguageModel

HEAD_NORMS = {"self_attn.q_layernorm": "mixer.query_norm", "self_attn.k_layernorm": "mixer.key_norm"}


def _starcoder2_plan(c: Starcoder2Config) -> StackPlan:
    """https://arxiv.org/abs/2402.19173."""
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.norm_epsilon),
        mixer=attention(c, bias=c.use_bias, out_bias=c.use_bias, window=c.sliding_window),
        mlp=feed_forward(c, gated=False, bias=c.use_bias),
        layer_dropout=c.residual_dropout,
        dropout=c.embedding_dropout,
    )


def _starcoder2_rows(c: Starcoder2Config) -> Iterator[Row]:
    return decoder_rows(c, {**NORMS, **ATTENTION, "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"})


STARCODER2 = Architecture(
    tasks=declare_tasks("Starcoder2", "model", _starcoder2_plan, _starcoder2_rows, HEADS),
    prefixes=("model",),
    initialization=initialization,
)


def _stablelm_plan(c: StableLmConfig) -> StackPlan:
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps, per_head=True, bias=False)
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=attention(c, bias=c.use_qkv_bias, out_bias=False, head_norm=head_norm if c.qk_layernorm else None),
        mlp=feed_forward(c, gated=True, bias=False),
        wiring=ParallelOneNorm if c.use_parallel_residual else PreNorm,
        layer_dropout=c.hidden_dropout,
        mixer_dropout=0.0,
    )


def _stablelm_rows(c: StableLmConfig) -> Iterator[Row]:
    norms = (
        Stacked(f"{LAYER}self_attn.{part}_layernorm.norms.*.weight", f"{LAYER}mixer.{ours}_norm.weight", heads)
        for part, ours, heads in (("q", "query", c.num_attention_heads), ("k", "key", c.num_key_value_heads))
    )
    return decoder_rows(c, {**NORMS, **ATTENTION, **GATED}, *norms)


STABLELM = Architecture(
    tasks=declare_tasks("StableLm", "model", _stablelm_plan, _stablelm_rows, HEADS),
    prefixes=("model",),
    initialization=initialization,
)


def _phi_plan(c: PhiConfig) -> StackPlan:
    """https://arxiv.org/abs/2306.11644."""
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps) if c.qk_layernorm else None
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=attention(c, bias=True, out_bias=True, head_norm=head_norm),
        mlp=feed_forward(c, gated=False, bias=True),
        wiring=ParallelOneNorm,
        layer_dropout=c.resid_pdrop,
        dropout=c.embd_pdrop,
    )


def _phi_rows(c: PhiConfig) -> Iterator[Row]:
    modules = {
        "input_layernorm": "mixer_norm",
        **QKV,
        "self_attn.dense": "mixer.out",
        **HEAD_NORMS,
        "mlp.fc1": "mlp.up",
        "mlp.fc2": "mlp.down",
    }
    return decoder_rows(c, modules, final_norm="final_layernorm")


def _phi_language_model(c: PhiConfig) -> LanguageModel.Config:
    return next_token(c, bias=True)


PHI = Architecture(
    tasks=declare_tasks(
        "Phi",
        "model",
        _phi_plan,
        _phi_rows,
        {
            **HEADS,
            "causal-lm": TaskHead(
                "ForCausalLM", _phi_language_model, (Same("lm_head.weight", "out.weight"), Same("lm_head.bias", "bias"))
            ),
        },
    ),
    prefixes=("model",),
    initialization=initialization,
)


def _persimmon_plan(c: PersimmonConfig) -> StackPlan:
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps) if c.qk_layernorm else None
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=attention(c, bias=True, out_bias=True, head_norm=head_norm),
        mlp=feed_forward(c, gated=False, bias=True),
        layer_dropout=c.hidden_dropout,
        mixer_dropout=0.0,
    )


def _persimmon_rows(c: PersimmonConfig) -> Iterator[Row]:
    modules = {
        **NORMS,
        "self_attn.dense": "mixer.out",
        **HEAD_NORMS,
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    }
    parts = tuple(f"{LAYER}mixer.{part}" for part in ("query", "key", "value"))
    fused = Fused(LAYER + "self_attn.query_key_value", parts, groups=c.num_attention_heads)
    return decoder_rows(c, modules, fused, final_norm="final_layernorm")


PERSIMMON = Architecture(
    tasks=declare_tasks("Persimmon", "model", _persimmon_plan, _persimmon_rows, HEADS),
    prefixes=("model",),
    initialization=initialization,
)


def _cohere_plan(c: CohereConfig) -> StackPlan:
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps, per_head=True, bias=False)
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps, bias=False),
        mixer=attention(
            c,
            bias=c.attention_bias,
            out_bias=c.attention_bias,
            rotary=rotary(c, NeighbourRotary),
            head_norm=head_norm if c.use_qk_norm else None,
        ),
        mlp=feed_forward(c, gated=True, bias=False),
        wiring=ParallelOneNorm,
    )


def _cohere_rows(c: CohereConfig) -> Iterator[Row]:
    norms = {"self_attn.q_norm": "mixer.query_norm", "self_attn.k_norm": "mixer.key_norm"}
    return decoder_rows(c, {"input_layernorm": "mixer_norm", **ATTENTION, **norms, **GATED})


def _cohere_language_model(c: CohereConfig) -> LanguageModel.Config:
    return LanguageModel.Config.of(c, predicts="next", scale=c.logit_scale)


COHERE = Architecture(
    tasks=declare_tasks(
        "Cohere",
        "model",
        _cohere_plan,
        _cohere_rows,
        {"causal-lm": TaskHead("ForCausalLM", _cohere_language_model, (Same("lm_head", "out"),))},
    ),
    prefixes=("model",),
    initialization=initialization,
)
