"""Starcoder2 (https://arxiv.org/abs/2402.19173)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row
from eir_seq.models.families.llama.architecture import (
    ATTENTION,
    HEADS,
    NORMS,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
)
from eir_seq.models.families.starcoder2.options import Starcoder2Config
from eir_seq.models.layers.norms.layer_norm import LayerNorm


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
