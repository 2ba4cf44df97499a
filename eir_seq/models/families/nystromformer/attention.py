"""Attention by landmarks (Nystromformer, https://arxiv.org/abs/2102.03902): cost grows linearly with the length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.left_aligned import LeftAligned

STEPS = 6
"""Iterations towards the pseudo-inverse, as published."""


def head_convolution(num_heads: int, width: int) -> nn.Conv2d:
    """A convolution over the tokens, one kernel per head for all of its channels."""
    return nn.Conv2d(num_heads, num_heads, (width, 1), padding=(width // 2, 0), bias=False, groups=num_heads)


def pseudo_inverse(matrix: Tensor, together: bool) -> Tensor:
    """(batch, heads, n, n) non-negative with rows that sum to one (or zero) -> its approximate inverse.

    The iteration of the paper's equation 11. It starts from the transpose over the greatest column sum: of each matrix,
    or `together` of the whole batch, which makes a text's result depend on its neighbours.
    """
    sums = matrix.sum(-2)
    greatest = sums.amax() if together else sums.amax(-1)[..., None, None]
    inverse = matrix.transpose(-1, -2) / greatest.clamp(min=torch.finfo(matrix.dtype).tiny)
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    one = one.expand(matrix.shape).flatten(0, -3)
    matrix, inverse, shape = matrix.flatten(0, -3), inverse.flatten(0, -3), matrix.shape
    for _ in range(STEPS):
        product = matrix @ inverse
        rest = torch.baddbmm(15 * one, product, 7 * one - product, alpha=-1)
        inverse = 0.25 * inverse @ torch.baddbmm(13 * one, product, rest, alpha=-1)
    return inverse.view(shape)


class NystromAttention(Attention):
    """Means of pieces of the text, its landmarks, mediate between queries and keys; a convolution of values is added.

    Each text has landmarks from its own real tokens: pieces of `piece` tokens, or in texts that would have more than
    `num_landmarks` of these, as many equal ones.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`num_landmarks`: most per text; None for dense attention. `convolution`: tokens that it reaches over.

        `together`: see `pseudo_inverse`.
        """

        num_landmarks: int | None
        piece: int = 1
        convolution: int | None = None
        together: bool = True

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.conv = head_convolution(config.num_heads, config.convolution) if config.convolution else None

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        if self.config.num_landmarks is None:
            mixed = super()._attend(query, key, value, ctx)
        else:
            mixed = self._by_landmarks(query, key, value, ctx).flatten(-2)
        if self.conv is None:
            return mixed
        rows = LeftAligned.of(ctx)
        near = self.conv(rows.spread(value).transpose(1, 2)).transpose(1, 2)
        return mixed + rows.collect(near).flatten(-2)

    def _by_landmarks(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        """(..., heads, head_size) each -> the same."""
        rows = LeftAligned.of(ctx)
        owner, there = ctx.once(("landmarks", self.config), lambda: self._pieces(rows))
        query, key, value = (rows.spread(x) for x in (query, key, value))
        of_queries, of_keys = (_means(x, owner, there) for x in (query, key))
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        dropout = self.config.dropout if self.training else 0.0
        seen, known = rows.real[:, None, None], there[:, None, None]
        seen = seen | ~seen.any(-1, keepdim=True)  # a text without tokens gives finite numbers
        known = known | ~known.any(-1, keepdim=True)
        scorer, pairs = self.config.scorer, Pairs(known)
        middle = scorer.weights(self, of_queries, of_keys, pairs) * there[:, None, :, None] * there[:, None, None]
        wide = torch.float64 if middle.dtype == torch.float64 else torch.float32
        with torch.autocast(query.device.type, enabled=False):
            inverse = pseudo_inverse(middle.to(wide), self.config.together).to(value.dtype)
        summaries = self._product(of_queries, key, value, seen, dropout, self.scale)
        if ctx.attentions is not None:
            weights = scorer.weights(self, query, of_keys, pairs).to(inverse.dtype) @ inverse
            ctx.attentions.append(rows.collect(weights.transpose(1, 2)).transpose(1, 2))
        mixed = self._product(query, of_keys, inverse @ summaries, known, dropout, self.scale)
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None, None]
        return rows.collect(mixed.transpose(1, 2))

    def _pieces(self, rows: LeftAligned) -> tuple[Tensor, Tensor]:
        """(batch, length) landmark of each place, of padding one more; (batch, landmarks) bool: which are."""
        most = self.config.num_landmarks
        assert most is not None
        lengths = rows.ends
        count = most if torch.compiler.is_exporting() else min(most, -(-rows.real.shape[1] // self.config.piece))
        column = torch.arange(rows.real.shape[1], device=lengths.device)
        fitting = column // self.config.piece
        spread = column * most // lengths.clamp(min=1)
        owner = torch.where(lengths > most * self.config.piece, spread, fitting)
        owner = owner.masked_fill(~rows.real, count)
        there = torch.zeros(lengths.shape[0], count + 1, dtype=torch.bool, device=lengths.device)
        return owner, there.scatter(1, owner, True)[:, :count]


def _means(x: Tensor, owner: Tensor, there: Tensor) -> Tensor:
    """(batch, length, heads, size), zero at padding -> (batch, heads, landmarks, size)."""
    batch, count = there.shape[0], there.shape[1] + 1
    slot = (owner + torch.arange(batch, device=x.device)[:, None] * count).flatten()
    flat = x.flatten(0, 1)
    sums = flat.new_zeros((batch * count, *flat.shape[1:])).index_add(0, slot, flat)
    sizes = flat.new_zeros(batch * count).index_add(0, slot, flat.new_ones(flat.shape[0])).clamp(min=1)
    means = (sums / sizes[:, None, None]).unflatten(0, (batch, count))[:, :-1]
    return means.transpose(1, 2)
