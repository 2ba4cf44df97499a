"""Mixtral (https://arxiv.org/abs/2401.04088)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Stacked
from eir_seq.models.families.llama.architecture import (
    ATTENTION,
    HEADS,
    LAYER,
    NORMS,
    attention,
    decoder_rows,
    initialization,
    llama_plan,
    question_answering,
)
from eir_seq.models.families.mixtral.heads import RoutedLanguageModel
from eir_seq.models.families.mixtral.options import MixtralConfig
from eir_seq.models.families.mixtral.routing import TopKExperts
from eir_seq.models.layers.moe.experts import Experts
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.residual import PreNormMoe


def _mixtral_plan(c: MixtralConfig) -> StackPlan:
    """https://arxiv.org/abs/2401.04088."""
    experts = Experts.Config(
        count=c.num_local_experts,
        hidden_size=c.hidden_size,
        inner_size=c.intermediate_size,
        activation=c.hidden_act,
        gated=True,
    )
    return llama_plan(
        c,
        norm=RMSNorm.Config(eps=c.rms_norm_eps),
        mixer=attention(c, bias=False, out_bias=False, window=c.sliding_window),
        mlp=TopKExperts.Config(experts=experts, per_token=c.num_experts_per_tok, jitter=c.router_jitter_noise),
        residual=PreNormMoe,
        output_router_logits=c.output_router_logits,
    )


def _mixtral_rows(c: MixtralConfig) -> Iterator[Row]:
    experts = (
        Stacked(
            f"{LAYER}block_sparse_moe.experts.*.{published}.weight", f"{LAYER}mlp.experts.{native}", c.num_local_experts
        )
        for published, native in (("w1", "gate"), ("w2", "down"), ("w3", "up"))
    )
    return decoder_rows(c, {**NORMS, **ATTENTION, "block_sparse_moe.gate": "mlp.router"}, *experts)


def _mixtral_language_model(c: MixtralConfig) -> RoutedLanguageModel.Config:
    return RoutedLanguageModel.Config.of(
        c, predicts="next", per_token=c.num_experts_per_tok, balance=c.router_aux_loss_coef
    )


MIXTRAL = Architecture(
    tasks=declare_tasks(
        "Mixtral",
        "model",
        _mixtral_plan,
        _mixtral_rows,
        {
            **HEADS,
            "causal-lm": TaskHead("ForCausalLM", _mixtral_language_model, (Same("lm_head", "out"),)),
            **question_answering("model"),
        },
    ),
    prefixes=("model",),
    initialization=initialization,
)
