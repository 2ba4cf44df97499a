"""Switch transformers (https://arxiv.org/abs/2101.03961): t5 with experts in some of its feed-forward blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.t5 import t5_initialization, t5_language_model, t5_side_rows, t5_stack
from eir_seq.models.blocks.experts import Experts, FirstInLine, with_room
from eir_seq.models.blocks.wiring import PreNormExperts
from eir_seq.models.checkpoint.keymap import Row, Same, Stacked, for_layers
from eir_seq.models.configs.t5 import SwitchTransformersConfig
from eir_seq.models.frames.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.base import Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.output import ModelOutput

# ----------------------------------------------------------------------------------------------------------- plans


def _stack(c: SwitchTransformersConfig, *, decoder: bool, routes: bool) -> StackPlan:
    sparse, plan = c.sparse(decoder=decoder), t5_stack(c, decoder=decoder)
    experts = FirstInLine.Config(
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
            replace(layer, wiring=PreNormExperts, mlp=experts) if routed else layer  # type: ignore[type-var]
            for layer, routed in zip(plan.layers, sparse, strict=True)
        ),
        packs_behind=not c.router_ignore_padding_tokens,  # in front of a text, padding takes room of the experts
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


# ------------------------------------------------------------------------------------------------------ key tables


def _side_rows(c: SwitchTransformersConfig, theirs: str, ours: str, *, decoder: bool) -> Iterator[Row]:
    for row in t5_side_rows(c, theirs, ours, decoder=decoder):
        yield replace(row, theirs=row.theirs.replace(".DenseReluDense.", ".mlp."))
    block, layer = f"{theirs}block.{{i}}.layer.{1 + decoder}.mlp.", ours + "layers.{i}.mlp."
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


class RoutedTarget(LanguageModel):
    """Scores of a target's tokens; routers' losses of both sides enter the loss where their scores are returned.

    As published, padding counts in them, unless routers skip it.
    """

    reads_padding = True

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`capacity`: of an expert. `size`, `balance`: weights of the losses. `skips_padding`: it does not count."""

        capacity: int
        size: float
        balance: float
        skips_padding: bool

    config: Config

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits` (batch, length, vocabulary) and, scalars, `z_loss` and `aux_loss` of each side that has routers."""
        return super().forward(output, inputs) | self._of_routers(output, inputs)

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Cross-entropy plus the weighted losses of the routers."""
        loss = super().loss(predictions, targets)
        return loss if loss is None else loss + self._weighted(predictions)

    def further_loss(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        """The weighted losses of the routers."""
        found = self._of_routers(output, inputs)
        return self._weighted(found) if found else None

    def _weighted(self, found: Mapping[str, Tensor]) -> Tensor:
        losses = [(self.config.size, "z_loss"), (self.config.balance, "aux_loss")]
        parts = [weight * x for weight, kind in losses for name, x in found.items() if name.endswith(kind)]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def _of_routers(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for side, mask in (("encoder", "attention_mask"), ("decoder", "decoder_attention_mask")):
            if scores := output.get(f"{side}_router_logits"):
                given: Tensor | None = inputs.get(mask) if self.config.skips_padding else None
                real = None if given is None else given[:, -scores[0].shape[1] :].bool()
                found[f"{side}_z_loss"], found[f"{side}_aux_loss"] = self._losses(scores, real)
        return found

    def _losses(self, scores: Sequence[Tensor], real: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean of squared logarithms of sums, and what is least, one, where each text uses all experts alike.

        Args:
            scores: of the routers of a side's layers, each (batch, length, experts).
            real: (batch, length) bool, the tokens that count; None for all.
        """
        layers = torch.stack(tuple(scores))
        share = torch.ones_like(layers[0, ..., 0]) if real is None else real.to(layers.dtype)
        per_text = (share / share.sum(1, keepdim=True).clamp(min=1) / len(layers))[None, ..., None]
        size = (layers.logsumexp(-1).square() * share).sum() / (share.sum() * len(layers))
        chances, count = layers.softmax(-1), layers.shape[-1]
        taken = F.one_hot(chances.argmax(-1), count) * share[None, ..., None].long()
        chosen = with_room(taken.flatten(0, 1), self.config.capacity).view_as(taken).argmax(-1)  # 0 without room
        used = (F.one_hot(chosen, count) * per_text).sum((0, 2))
        return size, (used * (chances * per_text).sum((0, 2))).mean() * count**2


def _language_model(c: SwitchTransformersConfig) -> LanguageModel.Config:
    return t5_language_model(
        c,
        RoutedTarget,
        capacity=c.expert_capacity,
        size=c.router_z_loss_coef,
        balance=c.router_aux_loss_coef,
        skips_padding=c.router_ignore_padding_tokens,
    )


def _initialization(c: SwitchTransformersConfig) -> Initialization:
    like_t5 = t5_initialization(c)
    return replace(like_t5, deviations={**like_t5.deviations, "*.mlp.router.weight": c.initializer_factor})


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
