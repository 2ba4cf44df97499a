"""Attention at two resolutions (MRA, https://arxiv.org/abs/2207.10284): between blocks, and where it matters, tokens.

The mean query and the mean key of two blocks give the score of the pair. The best pairs of a text are computed token by
token; the others count as if all of their tokens had the mean score (or not at all). Where all pairs of a batch are
among the best, this is dense attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.left_aligned import LeftAligned
from eir_seq.models.layers.precision import at_least_float32

PREFERRED, NEVER = 5e3, -1e6
"""Added to the scores of pairs that come first; score of pairs without tokens."""
TINY = 1e-6
"""Added to denominators, as published."""


class MraAttention(Attention):
    """Weights of tokens for the best pairs of blocks, weights of blocks for the rest."""

    spells_attentions = False

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`block`: tokens per block. `fine_pairs`: pairs of blocks per text and head that are computed token by token.

        `coarse_rest`: whether the other pairs count with their mean scores. `first`: blocks at the begin of a text, and
        `diagonal`: width of the band of pairs around its own block, that come before all others.
        """

        block: int
        fine_pairs: int
        coarse_rest: bool = True
        first: int = 0
        diagonal: int = 0

    config: Config

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        if ctx.attentions is not None:
            raise ValueError("output_attentions: this architecture has no weights of single pairs of tokens")
        longest = max(ctx.layout.lengths) if ctx.layout.packed else ctx.layout.length
        count = -(-longest // self.config.block)
        if count**2 <= self.config.fine_pairs:  # then all pairs are, and dense attention is the same
            return super()._attend(query, key, value, ctx)
        rows = LeftAligned.of(ctx, self.config.block)
        parts = (rows.spread(x).transpose(1, 2).unflatten(2, (-1, self.config.block)) for x in (query, key, value))
        with torch.autocast(query.device.type, enabled=False):
            q, k, v = (at_least_float32(x).flatten(0, 1) for x in parts)
            real = rows.real.repeat_interleave(self.config.num_heads, 0).unflatten(1, (-1, self.config.block))
            mixed = self._mixed(q, k, v, real).to(value.dtype)
        mixed = mixed.flatten(1, 2).unflatten(0, (-1, self.config.num_heads))
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None, None]
        return rows.collect(mixed.transpose(1, 2)).flatten(-2)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor) -> Tensor:
        """(texts * heads, blocks, tokens, size) each and which tokens are real -> the weighted means of values.

        All weights of a query are taken relative to its greatest score, of tokens or blocks.
        """
        sizes = real.sum(-1).to(query.dtype)
        mean_query, mean_key, mean_value = (x.sum(2) / (sizes[..., None] + TINY) for x in (query, key, value))
        there = (sizes > 0)[:, :, None] & (sizes > 0)[:, None]
        coarse = (mean_query @ mean_key.transpose(-1, -2) * self.scale).masked_fill(~there, NEVER)
        greatest = coarse.amax(-1, keepdim=True)
        pairs, chosen = self._best(coarse.detach() - greatest.detach(), there)

        count = coarse.shape[-1]
        text = torch.arange(pairs.shape[0], device=pairs.device)[:, None]
        of_query, of_key = pairs // count, pairs % count
        fine = query[text, of_query] @ key[text, of_key].transpose(-1, -2) * self.scale
        fine = fine.masked_fill(~real[text, of_key][:, :, None], float("-inf"))
        slot = (of_query + text * count).flatten()
        with torch.no_grad():
            best = fine.amax(-1).flatten(0, 1)
            start = greatest if self.config.coarse_rest else torch.full_like(greatest, NEVER)
            peak = start.expand(*start.shape[:2], self.config.block).flatten(0, 1)
            peak = peak.scatter_reduce(0, slot[:, None].expand_as(best), best, "amax")
        weights = (fine - peak[slot].unflatten(0, pairs.shape)[..., None]).exp()
        dropout = self.config.dropout if self.training else 0.0
        own = drop(weights, dropout) @ value[text, of_key]
        total = torch.zeros_like(peak).index_add(0, slot, weights.sum(-1).flatten(0, 1)).view(query.shape[:3])
        mixed = torch.zeros_like(query.flatten(0, 1)).index_add(0, slot, own.flatten(0, 1)).view(query.shape)
        if self.config.coarse_rest:
            weights = (coarse - greatest).exp().masked_fill(chosen | ~there, 0) * sizes[:, None]
            relative = (greatest - peak.view(query.shape[:3])).exp()
            total = total + relative * weights.sum(-1, keepdim=True)
            mixed = mixed + relative[..., None] * (drop(weights, dropout) @ mean_value)[:, :, None]
        return mixed / (total + TINY)[..., None]

    @torch.no_grad()
    def _best(self, scores: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (texts, blocks, blocks), relative to the best of each row -> numbers of the best pairs, and a mask."""
        count = scores.shape[-1]
        if self.config.diagonal:
            place = torch.arange(count, device=scores.device)
            scores = scores + PREFERRED * ((place[:, None] - place).abs() <= self.config.diagonal // 2)
        if self.config.first:
            begin = torch.arange(count, device=scores.device) < self.config.first
            scores = scores + PREFERRED * begin[:, None] + PREFERRED * begin
        scores = scores.masked_fill(~there, NEVER).flatten(1)
        pairs = scores.topk(min(self.config.fine_pairs, count**2), sorted=False).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, pairs, True)
        return pairs, chosen.view_as(there)
