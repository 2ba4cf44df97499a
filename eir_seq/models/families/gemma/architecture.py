"""Gemma (https://arxiv.org/abs/2403.08295)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.gemma.options import GemmaConfig
from eir_seq.models.families.llama.architecture import HEADS, attention, feed_forward, llama_plan, llama_rows
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.norms.rms_norm import CenteredRMSNorm


def _gemma_plan(c: GemmaConfig) -> StackPlan:
    return llama_plan(
        c,
        norm=CenteredRMSNorm.Config(eps=c.rms_norm_eps),
        mixer=attention(c, bias=c.attention_bias, out_bias=c.attention_bias),
        mlp=feed_forward(c, gated=True, bias=False),
        scale=c.hidden_size**0.5,
    )


def _gemma_rows(c: GemmaConfig) -> Iterator[Row]:
    for row in llama_rows(c):
        if isinstance(row, Same) and row.native.endswith("norm"):
            yield Same(f"{row.published}.weight", f"{row.native}.excess")
        else:
            yield row


GEMMA = Architecture(
    tasks=declare_tasks("Gemma", "model", _gemma_plan, _gemma_rows, HEADS),
    prefixes=("model",),
    initialization=lambda c: Initialization(c.initializer_range, {"*.excess": 0.0}),
)
