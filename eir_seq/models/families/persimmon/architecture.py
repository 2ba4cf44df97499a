"""Persimmon (https://www.adept.ai/blog/persimmon-8b)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row
from eir_seq.models.families.llama.architecture import (
    HEADS,
    LAYER,
    NORMS,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
)
from eir_seq.models.families.persimmon.options import PersimmonConfig
from eir_seq.models.families.phi.architecture import HEAD_NORMS
from eir_seq.models.layers.norms.layer_norm import HeadNorm, LayerNorm


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
