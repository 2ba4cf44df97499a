"""Decoders like llama whose layers may see a window only: qwen2 (https://arxiv.org/abs/2407.10671)."""

from __future__ import annotations

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.architectures.llama_like import (
    HEADS,
    attention,
    feed_forward,
    initialization,
    llama_plan,
    llama_rows,
    question_answering,
)
from eir_seq.models.blocks.norms import RMSNorm
from eir_seq.models.configs.llama_like import Qwen2Config
from eir_seq.models.frames.stack import StackPlan


def _qwen2_plan(c: Qwen2Config) -> StackPlan:
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
