"""Switch transformers (https://arxiv.org/abs/2101.03961): t5 with experts in some of its feed-forward blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Stacked, for_layers
from eir_seq.models.families.switch_transformers.options import SwitchTransformersConfig
from eir_seq.models.families.switch_transformers.routing import SwitchExperts, within_capacity
from eir_seq.models.families.t5.architecture import t5_initialization, t5_language_model, t5_side_rows, t5_stack
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.routed_target import RoutedTarget
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.moe.experts import Experts
from eir_seq.models.layers.residual import PreNormMoe

# ----------------------------------------------------------------------------------------------------------- plans


def _stack(c: SwitchTransformersConfig, *, decoder: bool, routes: bool) -> StackPlan:
    sparse, plan = c.sparse(decoder=decoder), t5_stack(c, decoder=decoder)
    experts = SwitchExperts.Config(
        experts=Experts.Config(
            count=c.num_experts,
            hidden_size=c.d_model,
            inner_size=c.d_ff,
            activation=c.dense_act_fn,
            gated=False,
            inner_dropout=c.dropout_rate,
        ),
        capacity=c.expert_capacity,
        jitter=c.router_jitter_noise,
        bias=c.router_bias,
        dtype=getattr(torch, c.router_dtype),
        skips_padding=c.router_ignore_padding_tokens,
    )
    return replace(
        plan,
        layers=tuple(
            replace(layer, residual=PreNormMoe, mlp=experts) if routed else layer  # type: ignore[type-var]
            for layer, routed in zip(plan.layers, sparse, strict=True)
        ),
        packs_right_padding_only=not c.router_ignore_padding_tokens,  # left padding uses experts' capacity
        output_router_logits=routes if any(sparse) else None,
    )


def _plan(c: SwitchTransformersConfig, *, routes: bool | None = None) -> EncoderDecoderPlan:
    routes = c.add_router_probs if routes is None else routes
    return EncoderDecoderPlan(
        encoder=_stack(c, decoder=False, routes=routes), decoder=_stack(c, decoder=True, routes=routes)
    )


def _writing_plan(c: SwitchTransformersConfig) -> EncoderDecoderPlan:
    return _plan(c, routes=True)


def _encoder_plan(c: SwitchTransformersConfig) -> StackPlan:
    return _stack(c, decoder=False, routes=c.add_router_probs)


# ------------------------------------------------------------------------------------------------------ key maps


def _side_rows(c: SwitchTransformersConfig, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
    for row in t5_side_rows(c, published, native, decoder=decoder):
        yield replace(row, published=row.published.replace(".DenseReluDense.", ".mlp."))
    block, layer = f"{published}block.{{i}}.layer.{1 + decoder}.mlp.", native + "layers.{i}.mlp."
    yield from for_layers(
        c.layers(decoder=decoder),
        Same(block + "router.classifier", layer + "router"),
        Stacked(block + "experts.expert_*.wi.weight", layer + "experts.up", c.num_experts),
        Stacked(block + "experts.expert_*.wo.weight", layer + "experts.down", c.num_experts),
    )


def _rows(c: SwitchTransformersConfig) -> Iterator[Row]:
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):  # one table; files hold any of its names
        yield Same(name, "encoder.embeddings.tokens")
    yield from _side_rows(c, "encoder.", "encoder.", decoder=False)
    yield from _side_rows(c, "decoder.", "decoder.", decoder=True)


def _encoder_rows(c: SwitchTransformersConfig) -> Iterator[Row]:
    for name in ("shared", "encoder.embed_tokens"):
        yield Same(name, "embeddings.tokens")
    yield from _side_rows(c, "encoder.", "", decoder=False)


# ------------------------------------------------------------------------------------------------------------ head


class SwitchTarget(RoutedTarget):
    """As published, padding counts in the losses of routers, unless they skip it."""

    reads_padding = True

    @dataclass(frozen=True, kw_only=True)
    class Config(RoutedTarget.Config):
        """`capacity`: of an expert. `size`: weight of the losses `z_loss`. `skips_padding`: it does not count."""

        capacity: int
        size: float
        skips_padding: bool

    config: Config

    @property
    def further_by_texts(self) -> bool:
        """As each text's experts are balanced."""
        return True

    @property
    def weights(self) -> dict[str, float]:
        """Those of the losses of routers, by name."""
        return {"z_loss": self.config.size, **super().weights}

    def of_side(self, layers: Sequence[Tensor], real: Tensor | None) -> dict[str, Tensor]:
        """The mean of squared logarithms of sums, and what is least, one, where each text uses all experts alike."""
        scores = torch.stack(tuple(layers))
        real = real if self.config.skips_padding else None
        share = torch.ones_like(scores[0, ..., 0]) if real is None else real.to(scores.dtype)
        per_text = (share / share.sum(1, keepdim=True).clamp(min=1) / len(scores))[None, ..., None]
        size = (scores.logsumexp(-1).square() * share).sum() / (share.sum() * len(scores))
        probabilities, count = scores.softmax(-1), scores.shape[-1]
        taken = F.one_hot(probabilities.argmax(-1), count) * share[None, ..., None].long()
        chosen = within_capacity(taken.flatten(0, 1), self.config.capacity).view_as(taken).argmax(-1)  # 0 without room
        used = (F.one_hot(chosen, count) * per_text).sum((0, 2))
        return {"z_loss": size, "aux_loss": (used * (probabilities * per_text).sum((0, 2))).mean() * count**2}


def _language_model(c: SwitchTransformersConfig) -> LanguageModel.Config:
    return t5_language_model(
        c,
        SwitchTarget,
        capacity=c.expert_capacity,
        size=c.router_z_loss_coef,
        balance=c.router_aux_loss_coef,
        skips_padding=c.router_ignore_padding_tokens,
    )


def _initialization(c: SwitchTransformersConfig) -> Initialization:
    like_t5 = t5_initialization(c)
    return replace(like_t5, stds={**like_t5.stds, "*.mlp.router.weight": c.initializer_factor})


SWITCH_TRANSFORMERS = Architecture(
    tasks=declare_tasks(
        "SwitchTransformers",
        "",
        _plan,
        _rows,
        {
            "encoder": TaskHead("EncoderModel", None, plan=_encoder_plan, body_rows=_encoder_rows),
            "seq2seq-lm": TaskHead(
                "ForConditionalGeneration", _language_model, (Same("lm_head", "out"),), plan=_writing_plan
            ),
        },
    ),
    prefixes=(),
    initialization=_initialization,
)
