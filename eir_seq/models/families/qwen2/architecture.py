"""Qwen2 (https://arxiv.org/abs/2407.10671)."""

from __future__ import annotations

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.families.llama.architecture import (
    HEADS,
    attention,
    feed_forward,
    initialization,
    llama_plan,
    llama_rows,
    question_answering,
)
from eir_seq.models.families.qwen2.options import Qwen2Config
from eir_seq.models.layers.norms.rms_norm import RMSNorm


def _qwen2_plan(c: Qwen2Config) -> StackPlan:
    """https://arxiv.org/abs/2407.10671."""
    return llama_plan(
        c,
        norm=RMSNorm.Config(eps=c.rms_norm_eps),
        mixer=attention(c, bias=True, out_bias=False),
        mlp=feed_forward(c, gated=True, bias=False),
        windows=c.windows(),
    )


QWEN2 = Architecture(
    tasks=declare_tasks("Qwen2", "model", _qwen2_plan, llama_rows, {**HEADS, **question_answering("transformer")}),
    prefixes=("model", "transformer"),
    initialization=initialization,
)
