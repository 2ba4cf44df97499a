"""Mvp (https://arxiv.org/abs/2206.12131): bart, pretrained on labelled data, with optional prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bart.architecture import TEXT_HEADS, Design, bart_like_architecture, bart_like_tasks
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.mvp.options import MvpConfig
from eir_seq.models.families.mvp.prompts import PromptedAttention, PromptedEmbeddings, Prompts
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.residual import LayerPlan


def _prompted(c: MvpConfig, stack: StackPlan, *, decoder: bool) -> StackPlan:
    """The same side with prompts in all layers."""
    prompts = Prompts.Config(
        length=c.prompt_length,
        inner_size=c.prompt_mid_dim,
        num_layers=len(stack.layers),
        hidden_size=c.d_model,
        num_heads=c.decoder_attention_heads if decoder else c.encoder_attention_heads,
        dropout=c.dropout,
    )
    embeddings: Any = stack.embeddings
    return replace(
        stack,
        embeddings=PromptedEmbeddings.Config(
            **vars(embeddings), own_prompts=prompts, cross_prompts=prompts if decoder else None
        ),
        layers=tuple(_with_prompts(layer, number) for number, layer in enumerate(stack.layers)),
    )


def _with_prompts(layer: Any, number: int) -> LayerPlan:
    def prompted(attention: Any) -> Any:
        assert isinstance(attention, Attention.Config)
        return PromptedAttention.Config(**vars(attention), layer=number)

    assert isinstance(layer, LayerPlan)
    return replace(layer, mixer=prompted(layer.mixer), cross=prompted(layer.cross) if layer.cross else None)


@dataclass(frozen=True, kw_only=True)
class Prompted(Design):
    """A design with prompts; the decoder alone has none."""

    def plan(self, c: LikeBart) -> EncoderDecoderPlan:
        """Both sides."""
        assert isinstance(c, MvpConfig)
        plan = super().plan(c)
        if not c.use_prompt:
            return plan
        return replace(
            plan,
            encoder=_prompted(c, plan.encoder, decoder=False),
            decoder=_prompted(c, plan.decoder, decoder=True),
        )

    def side_rows(self, c: LikeBart, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
        """The key map of one side."""
        yield from super().side_rows(c, published, native, decoder=decoder)
        for kind, own in (("self", "own"), ("cross", "cross"))[: 1 + decoder]:
            network, prompts = f"{published}{kind}_attn_prompt", f"{native}embeddings.{own}_prompts"
            yield Same(f"{network}.prompt_embedding", f"{prompts}.table")
            yield Same(f"{network}.prompt_trans.0", f"{prompts}.up")
            yield Same(f"{network}.prompt_trans.2", f"{prompts}.down")


MVP = bart_like_architecture(bart_like_tasks("Mvp", Prompted(shifts=True), TEXT_HEADS))
