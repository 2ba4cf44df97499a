"""The layers of ibert, in integers or in floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.families.ibert.integer_ops import (
    IntegerLayerNorm,
    IntegerSoftmax,
    QuantizedEmbedding,
    QuantizedLinear,
    Requantize,
    Scaled,
    integer_gelu,
)
from eir_seq.models.families.ibert.options import IBertConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout, drop
from eir_seq.models.layers.positions.position_ids import InputPositionIds


class QuantizedEmbeddings(Configured):
    """Roberta's embeddings; every table and every sum has its own scale."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: IBertConfig

        @property
        def hidden_size(self) -> int:
            """Width of the states."""
            return self.options.hidden_size

        features: ClassVar = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        assert c.pad_token_id is not None
        whole = c.quant_mode
        self.numbering = InputPositionIds(c.pad_token_id)
        self.tokens = QuantizedEmbedding(c.vocab_size, c.hidden_size, c.pad_token_id, whole)
        self.segments = QuantizedEmbedding(c.type_vocab_size, c.hidden_size, None, whole)
        self.positions = QuantizedEmbedding(c.max_position_embeddings, c.hidden_size, None, whole)
        self.sum, self.unread = Requantize(16, whole), Requantize(16, whole)
        self.norm = IntegerLayerNorm(c.hidden_size, c.layer_norm_eps, c.in_whole_numbers("layernorm"))
        self.dropout = Dropout(c.hidden_dropout_prob)
        self.requantize = Requantize(8, whole)

    @property
    def scale(self) -> Tensor | None:
        """The scale of what the last pass returned; all layers take it for that of their states, as published."""
        scale = self.requantize.act_scaling_factor.clone()
        return scale if self.requantize.whole else None

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],  # noqa: ARG002
    ) -> Tensor:
        """Token ids (...) or vectors (..., hidden) -> (..., hidden).

        Raises:
            ValueError: integer arithmetic with weights in half precision.
        """
        if self.requantize.whole and self.tokens.weight.dtype in (torch.float16, torch.bfloat16):
            raise ValueError("quant_mode needs weights in float32: half precision does not hold its integers")
        x, scale = self.tokens.rows(ids) if ids is not None else (vectors, None)
        assert x is not None
        x, scale = self.sum(
            x, scale, *self.segments.rows(torch.zeros_like(positions) if segments is None else segments)
        )
        x, scale = self.norm(*self.sum(x, scale, *self.positions.rows(positions)))
        states: Tensor = self.requantize(self.dropout(x), scale)[0]
        return states


def quantized_product(linear: nn.Module, x: Tensor, scale: Tensor | None = None) -> Scaled:
    """What a `QuantizedLinear` makes of numbers and their scale."""
    assert isinstance(linear, QuantizedLinear)
    return linear.product(x, scale)


class QuantizedAttention(Attention):
    """Attention that notes the ranges of its activations, and computes with integers if requested."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`whole`: the mode; `whole_softmax`: whether it holds for the softmax too."""

        whole: bool
        whole_softmax: bool

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        size, whole = config.hidden_size, config.whole
        self.whole = whole
        self.query, self.key = QuantizedLinear(size, size, whole), QuantizedLinear(size, size, whole)
        self.value, self.out = QuantizedLinear(size, size, whole), QuantizedLinear(size, size, whole)
        self.query_range, self.key_range = Requantize(8, whole), Requantize(8, whole)
        self.value_range, self.mixed_range = Requantize(8, whole), Requantize(8, whole)
        self.softmax = IntegerSoftmax(8, config.whole_softmax)

    def mix(self, x: Tensor, scale: Tensor | None, ctx: Context) -> Scaled:
        """States and their scale -> mixed and projected states and their scale."""
        query, query_scale = self.query_range(*quantized_product(self.query, x, scale))
        key, key_scale = self.key_range(*quantized_product(self.key, x, scale))
        value, value_scale = self.value_range(*quantized_product(self.value, x, scale))
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
        if not self.whole:
            return quantized_product(self.out, *self.mixed_range(self._attend(query, key, value, ctx)))
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        root = math.sqrt(self.head_size)
        scores = query @ key.transpose(-1, -2) / root
        if (mask := ctx.mask(query.shape[2], key.shape[2], causal=False)) is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights, unit = self.softmax(scores, query_scale * key_scale / root)
        weights = drop(weights, self.config.dropout, self.training)
        weights = weights if ctx.head_mask is None else weights * ctx.head_mask[:, None, None]
        if ctx.attentions is not None:
            ctx.attentions.append(weights)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        return quantized_product(self.out, *self.mixed_range(mixed, None if unit is None else unit * value_scale))


class QuantizedLayer(Configured):
    """Bert's layer; between any two products activations are brought back to 8 bits."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: IBertConfig

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        self.whole = whole = c.quant_mode
        size = c.hidden_size
        norm = partial(IntegerLayerNorm, size, c.layer_norm_eps, c.in_whole_numbers("layernorm"))
        self.mixer = QuantizedAttention.Config(
            hidden_size=size,
            num_heads=c.num_attention_heads,
            dropout=c.attention_probs_dropout_prob,
            whole=whole,
            whole_softmax=c.in_whole_numbers("softmax"),
        ).build()
        self.mixer_sum, self.mixer_norm, self.mixer_range = Requantize(22, whole), norm(), Requantize(8, whole)
        self.up_range, self.gelu_range, self.down_range = (Requantize(8, whole) for _ in range(3))
        self.up, self.down = (
            QuantizedLinear(size, c.intermediate_size, whole),
            QuantizedLinear(c.intermediate_size, size, whole),
        )
        self.mlp_sum, self.mlp_norm, self.mlp_range = Requantize(22, whole), norm(), Requantize(8, whole)
        self.dropout = Dropout(c.hidden_dropout_prob)
        self.integer_gelu = c.in_whole_numbers("gelu")

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same; integers are never rounded to half precision."""
        if self.whole:
            with torch.autocast(x.device.type, enabled=False):
                return self._layer(x, ctx)
        return self._layer(x, ctx)

    def _layer(self, x: Tensor, ctx: Context) -> Tensor:
        assert isinstance(ctx.embeddings, QuantizedEmbeddings)
        scale = ctx.embeddings.scale
        y, y_scale = self.mixer.mix(x, scale, ctx)
        y, y_scale = self.mixer_range(*self.mixer_norm(*self.mixer_sum(self.dropout(y), y_scale, x, scale)))
        y, y_scale = self.up_range(y, y_scale)
        z, z_scale = self.up.product(y, y_scale)
        z, z_scale = integer_gelu(z, z_scale) if self.integer_gelu and z_scale is not None else (F.gelu(z), None)
        z, z_scale = self.down.product(*self.down_range(*self.gelu_range(z, z_scale)))
        states, _ = self.mlp_range(*self.mlp_norm(*self.mlp_sum(self.dropout(z), z_scale, y, y_scale)))
        return states
