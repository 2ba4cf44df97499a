"""Cohere (https://cohere.com/blog/command-r)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.cohere.options import CohereConfig
from eir_seq.models.families.llama.architecture import (
    ATTENTION,
    GATED,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
    rotary,
)
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.norms.layer_norm import HeadNorm, LayerNorm
from eir_seq.models.layers.positions.rotary import InterleavedRotary
from eir_seq.models.layers.residual import ParallelOneNorm


def _cohere_plan(c: CohereConfig) -> StackPlan:
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps, per_head=True, bias=False)
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps, bias=False),
        mixer=attention(
            c,
            bias=c.attention_bias,
            out_bias=c.attention_bias,
            rotary=rotary(c, InterleavedRotary),
            head_norm=head_norm if c.use_qk_norm else None,
        ),
        mlp=feed_forward(c, gated=True, bias=False),
        residual=ParallelOneNorm,
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
