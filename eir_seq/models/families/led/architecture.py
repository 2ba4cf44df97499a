"""Led (https://arxiv.org/abs/2004.05150): bart whose encoder looks through longformer's windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bart.architecture import (
    TEXT_HEADS,
    Design,
    bart_layer,
    bart_like_architecture,
    bart_like_tasks,
)
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.led.options import LEDConfig
from eir_seq.models.layers.attention.sliding_window import SlidingWindowAttention
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.residual import Layer, LayerPlan


def _layer(c: LEDConfig, residual: type[Layer], number: int, *, decoder: bool) -> LayerPlan:
    layer = bart_layer(c, residual, number, decoder=decoder)
    if decoder:
        return layer
    windowed = SlidingWindowAttention.Config(
        hidden_size=c.d_model,
        num_heads=c.encoder_attention_heads,
        reach=c.windows()[number] // 2,
        dropout=c.attention_dropout,
    )
    return replace(layer, mixer=windowed)


def _target_positions(c: LEDConfig) -> LearnedPositions.Config:
    return LearnedPositions.Config(count=c.max_decoder_position_embeddings)


@dataclass(frozen=True, kw_only=True)
class Windowed(Design):
    """A design with longformer's encoder, which has a table of positions of its own."""

    def stack(self, c: LikeBart, *, decoder: bool) -> StackPlan:
        """One side."""
        assert isinstance(c, LEDConfig)
        stack = super().stack(c, decoder=decoder)
        if decoder:
            return stack
        embeddings: Any = stack.embeddings
        positions = LearnedPositions.Config(count=c.max_encoder_position_embeddings)
        return replace(stack, embeddings=replace(embeddings, positions=positions), features=("global_attention_mask",))

    def side_rows(self, c: LikeBart, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
        """The key map of one side."""
        if not decoder:
            attention, mixer = f"{published}layers.{{i}}.self_attn.", f"{native}layers.{{i}}.mixer."
            parts = ("query", "key", "value", "query_global", "key_global", "value_global")
            yield from for_layers(
                c.encoder_layers,
                *(Same(f"{attention}longformer_self_attn.{part}", mixer + part) for part in parts),
                Same(f"{attention}output", f"{mixer}out"),
            )
        yield from super().side_rows(c, published, native, decoder=decoder)


_TASKS = bart_like_tasks(
    "LED", Windowed(shifts=True, positions=_target_positions, layer=_layer), TEXT_HEADS, prefix="led"
)
LED = bart_like_architecture({name: task for name, task in _TASKS.items() if name != "causal-lm"})
