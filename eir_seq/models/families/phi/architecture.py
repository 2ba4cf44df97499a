"""Phi (https://arxiv.org/abs/2306.11644)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.gpt2.heads import next_token
from eir_seq.models.families.llama.architecture import (
    HEADS,
    QKV,
    attention,
    decoder_rows,
    feed_forward,
    initialization,
    llama_plan,
)
from eir_seq.models.families.phi.options import PhiConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.norms.layer_norm import HeadNorm, LayerNorm
from eir_seq.models.layers.residual import ParallelOneNorm

HEAD_NORMS = {"self_attn.q_layernorm": "mixer.query_norm", "self_attn.k_layernorm": "mixer.key_norm"}


def _phi_plan(c: PhiConfig) -> StackPlan:
    """https://arxiv.org/abs/2306.11644."""
    head_norm = HeadNorm.Config(eps=c.layer_norm_eps) if c.qk_layernorm else None
    return llama_plan(
        c,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=attention(c, bias=True, out_bias=True, head_norm=head_norm),
        mlp=feed_forward(c, gated=False, bias=True),
        residual=ParallelOneNorm,
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
