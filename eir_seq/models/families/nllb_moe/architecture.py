"""Nllb-moe (https://arxiv.org/abs/2207.04672): m2m_100 with sparse experts in some layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Stacked, for_layers
from eir_seq.models.families.bart.architecture import Design
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.m2m_100.architecture import M2M_100_DESIGN, translator
from eir_seq.models.families.nllb_moe.options import NllbMoeConfig
from eir_seq.models.families.nllb_moe.top2_routing import BiasedExperts, Top2Experts, share_loss
from eir_seq.models.heads.routed_target import RoutedTarget
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.residual import Layer, LayerPlan, PreNormMoe

RENAMED = {".encoder_attn": ".cross_attention", ".fc": ".ffn.fc", ".final_layer_norm": ".ff_layer_norm"}
"""Parts of published names: those of the toolkit -> those of this architecture."""


def _layer(c: NllbMoeConfig, residual: type[Layer], number: int, *, decoder: bool) -> LayerPlan:
    dense = M2M_100_DESIGN.layer(c, residual, number, decoder=decoder)
    assert isinstance(dense, LayerPlan)
    layer = replace(dense, mixer_dropout=c.dropout, dropout=c.activation_dropout)
    if not c.sparse(decoder=decoder)[number]:
        return layer
    experts = BiasedExperts.Config(
        count=c.num_experts,
        hidden_size=c.d_model,
        inner_size=c.decoder_ffn_dim if decoder else c.encoder_ffn_dim,
        activation=c.activation_function,
        inner_dropout=c.activation_dropout,
        dropout=c.moe_token_dropout,
    )
    routed = Top2Experts.Config(
        experts=experts,
        capacity=c.expert_capacity,
        evaluated_share=c.moe_eval_capacity_token_fraction,
        second=c.second_expert_policy,  # type: ignore[arg-type]
        normalizes_all=c.normalize_router_prob_before_dropping,
        by_importance=c.batch_prioritized_routing,
        routes_padding=c.router_ignore_padding_tokens,
        router_bias=c.router_bias,
        router_dtype=getattr(torch, c.router_dtype),
    )
    return replace(layer, residual=PreNormMoe, mlp=routed)


@dataclass(frozen=True, kw_only=True)
class Sparse(Design):
    """A design with sparse layers."""

    def stack(self, c: LikeBart, *, decoder: bool) -> StackPlan:
        """One side."""
        assert isinstance(c, NllbMoeConfig)
        return replace(
            super().stack(c, decoder=decoder),
            output_router_logits=c.output_router_logits if any(c.sparse(decoder=decoder)) else None,
            packable=not c.router_ignore_padding_tokens,  # padding uses capacity of the experts
        )

    def side_rows(self, c: LikeBart, prefix: str, native: str, *, decoder: bool) -> Iterator[Row]:
        """The key map of one side."""
        assert isinstance(c, NllbMoeConfig)
        for row in super().side_rows(c, prefix, native, decoder=decoder):
            name = row.published
            for toolkit, own in RENAMED.items():
                name = name.replace(toolkit, own)
            yield replace(row, published=name)
        published, own = f"{prefix}layers.{{i}}.ffn.", f"{native}layers.{{i}}.mlp."
        leaves = {"fc1.weight": "up", "fc1.bias": "up_bias", "fc2.weight": "down", "fc2.bias": "down_bias"}
        yield from for_layers(
            c.decoder_layers if decoder else c.encoder_layers,
            Same(f"{published}router.classifier", f"{own}router"),
            *(
                Stacked(f"{published}experts.expert_*.{leaf}", f"{own}experts.{part}", c.num_experts)
                for leaf, part in leaves.items()
            ),
        )


_TRANSLATOR = translator("NllbMoe", Sparse(**{**vars(M2M_100_DESIGN), "layer": _layer}))


class SharedTarget(RoutedTarget):
    """Experts of each layer are to be used alike; routers leave weights of padding at zero where they skip it."""

    def of_side(self, layers: Sequence[Tensor], real: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """The mean over the layers."""
        return {"aux_loss": torch.stack([share_loss(weights) for weights in layers]).mean()}


def _target(c: NllbMoeConfig) -> SharedTarget.Config:
    head: Any = _TRANSLATOR.tasks["seq2seq-lm"].head
    return SharedTarget.Config(**vars(head(c)), balance=c.router_aux_loss_coef)


NLLB_MOE = replace(
    _TRANSLATOR,
    tasks={**_TRANSLATOR.tasks, "seq2seq-lm": replace(_TRANSLATOR.tasks["seq2seq-lm"], head=_target)},
    initialization=lambda c: Initialization(c.init_std, {"*_bias": 0.0}),
)
