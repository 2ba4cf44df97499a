"""Scores that fall with the distance of the key, instead of positions (https://arxiv.org/abs/2108.12409)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.context import Bias, Context
from eir_seq.models.layers.positions.position_ids import MaskPositionIds, PositionIds


def slopes(heads: int) -> list[float]:
    """How much the score falls per token, for each head: powers of two from 2^(-8 / heads) down to 2^-8.

    A number of heads that is no power of two takes the slopes of the next smaller one that is, and then every second
    slope of the next larger one.
    """
    whole = 2 ** int(math.log2(heads))
    first = [2 ** (-8 * head / whole) for head in range(1, whole + 1)]
    return first + [2 ** (-4 * head / whole) for head in range(1, 2 * (heads - whole), 2)]


@dataclass(frozen=True, kw_only=True)
class Alibi:
    """Attention with linear biases: at a head of slope s, a key d tokens before its query scores s * d less.

    `numbering`: how tokens are counted. `scaled`: the bias precedes the factor on the scores.
    `rounded`: products of slope and position are rounded to bfloat16, as some published weights were trained.
    """

    numbering: PositionIds = MaskPositionIds()
    scaled: bool = False
    rounded: bool = False

    def bias(self, ctx: Context, heads: int, factor: float) -> Bias:
        """For padded texts; it gives (batch or 1, heads, queries, keys) and is computed once for all layers.

        Args:
            factor: that on the scores.
        """
        return lambda query, key: ctx.once(
            (self, heads, factor, key.shape[2]),
            lambda: _differences(self._heights(ctx, heads, factor, key.shape[2]), query.shape[2]),
        )

    def biases(self, ctx: Context, heads: int, factor: float) -> list[Bias]:
        """For packed texts, one for each."""
        heights = ctx.once((self, heads, factor), lambda: self._heights(ctx, heads, factor, ctx.layout.length))
        return [_bias_of_text(height) for height in heights.split(ctx.layout.lengths)]

    def _heights(self, ctx: Context, heads: int, factor: float, keys: int) -> Tensor:
        """(batch or 1, keys, heads), or packed (tokens, heads): what the bias is the difference of, in float32."""
        layout, device = ctx.layout, ctx.positions.device
        places = self.numbering((layout.batch, keys), None, ctx.keys, 0, device)
        if layout.packed:
            places = layout.pack(places.expand(layout.batch, keys))
        kind = torch.bfloat16 if self.rounded else torch.float32
        heights = (places[..., None] * torch.tensor(slopes(heads), device=device, dtype=kind)).float()
        return heights * factor if self.scaled else heights


def _bias_of_text(heights: Tensor) -> Bias:
    return lambda query, key: _differences(heights[None], query.shape[2])  # noqa: ARG005


def _differences(heights: Tensor, queries: int) -> Tensor:
    """(batch, keys, heads) -> (batch, heads, queries, keys); the queries are the last of the keys."""
    rows = heights.transpose(1, 2)
    return rows[:, :, None, :] - rows[:, :, rows.shape[2] - queries :, None]
