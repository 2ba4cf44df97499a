"""Stablelm (https://arxiv.org/abs/2402.17834)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Stacked
from eir_seq.models.families.llama.architecture import (
    ATTENTION,
    GATED,
    HEADS,
    LAYER,
    NORMS,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
)
from eir_seq.models.families.stablelm.options import StableLmConfig
from eir_seq.models.layers.norms.layer_norm import HeadNorm, LayerNorm
from eir_seq.models.layers.residual import ParallelOneNorm, PreNorm


def _stablelm_plan(c: StableLmConfig) -> StackPlan:
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps, per_head=True, bias=False)
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=attention(c, bias=c.use_qkv_bias, out_bias=False, head_norm=head_norm if c.qk_layernorm else None),
        mlp=feed_forward(c, gated=True, bias=False),
        residual=ParallelOneNorm if c.use_parallel_residual else PreNorm,
        layer_dropout=c.hidden_dropout,
        mixer_dropout=0.0,
    )


def _stablelm_rows(c: StableLmConfig) -> Iterator[Row]:
    norms = (
        Stacked(f"{LAYER}self_attn.{part}_layernorm.norms.*.weight", f"{LAYER}mixer.{native}_norm.weight", heads)
        for part, native, heads in (("q", "query", c.num_attention_heads), ("k", "key", c.num_key_value_heads))
    )
    return decoder_rows(c, {**NORMS, **ATTENTION, **GATED}, *norms)


STABLELM = Architecture(
    tasks=declare_tasks("StableLm", "model", _stablelm_plan, _stablelm_rows, HEADS),
    prefixes=("model",),
    initialization=initialization,
)
