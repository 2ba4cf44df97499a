"""Residual layers: where norms are (pre-norm, post-norm, sandwich) and whether sublayers run in parallel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.layers.build import Part, Sized
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """The sublayers of a layer, and how they meet the residual stream.

    `residual`: where norms are (`PreNorm`, `PostNorm` ...). `mixer`: the token mixer, which moves information between
    tokens (usually attention). `mlp`: the feed-forward block. `dropout` falls on what each sublayer adds;
    `mixer_dropout` overrides it for the mixer. `skipped`: probability to be left out in training (LayerDrop,
    https://arxiv.org/abs/1909.11556).
    """

    residual: type[Layer]
    hidden_size: int
    norm: Sized
    mixer: Part
    mlp: Part
    cross: Part | None = None
    dropout: float = 0.0
    mixer_dropout: float | None = None
    skipped: float = 0.0

    def build(self) -> Layer:
        """The layer."""
        return self.residual(self)


class Layer(nn.Module):
    """Mixer, optional cross-attention and feed-forward block, each with its norm."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.mixer = plan.mixer.build()
        self.mixer_norm = plan.norm.build(plan.hidden_size)
        self.cross = plan.cross.build() if plan.cross else None
        self.cross_norm = plan.norm.build(plan.hidden_size) if plan.cross else None
        self.mlp = plan.mlp.build()
        self.mlp_norm = plan.norm.build(plan.hidden_size)
        self.dropout = Dropout(plan.dropout)
        self.mixer_dropout = Dropout(plan.dropout if plan.mixer_dropout is None else plan.mixer_dropout)
        self.skipped = plan.skipped

    def skips(self) -> bool:
        """Whether this pass leaves the layer out; redrawn at each call."""
        return self.training and self.skipped > 0 and float(torch.rand(())) < self.skipped


class PostNorm(Layer):
    """Norm after each residual sum (https://arxiv.org/abs/1706.03762)."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if self.skips():
            return x
        x = self.mixer_norm(x + self.mixer_dropout(self.mixer(x, ctx)))
        if self.cross is not None and self.cross_norm is not None and ctx.memory is not None:
            x = self.cross_norm(x + self.mixer_dropout(self.cross(x, ctx)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class Parallel(Layer):
    """Mixer and feed-forward block read the same state, each after its own norm (https://arxiv.org/abs/2204.06745)."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        mixed = self.mixer_dropout(self.mixer(self.mixer_norm(x), ctx))
        return x + mixed + self.dropout(self.mlp(self.mlp_norm(x)))


class ParallelOneNorm(Layer):
    """Mixer and feed-forward block read the same normed state (gptj)."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        del self.mlp_norm

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        normed = self.mixer_norm(x)
        return x + self.mixer_dropout(self.mixer(normed, ctx)) + self.dropout(self.mlp(normed))


class PreNorm(Layer):
    """Norm before each sublayer; the residual stream itself is never normed (https://arxiv.org/abs/2002.04745)."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if self.skips():
            return x
        x = x + self.mixer_dropout(self.mixer(self.mixer_norm(x), ctx))
        if self.cross is not None and self.cross_norm is not None and ctx.memory is not None:
            x = x + self.mixer_dropout(self.cross(self.cross_norm(x), ctx))
        return x + self.dropout(self._feed(self.mlp_norm(x), ctx))

    def _feed(self, x: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        out: Tensor = self.mlp(x)
        return out


class Sandwich(PreNorm):
    """Norms before and after each sublayer, inside the residual sum (https://arxiv.org/abs/2105.13290)."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        self.mixer_end_norm = plan.norm.build(plan.hidden_size)
        self.cross_end_norm = plan.norm.build(plan.hidden_size) if plan.cross else None
        self.mlp_end_norm = plan.norm.build(plan.hidden_size)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if self.skips():
            return x
        x = x + self.mixer_dropout(self.mixer_end_norm(self.mixer(self.mixer_norm(x), ctx)))
        if self.cross is not None and self.cross_norm is not None and ctx.memory is not None:
            assert self.cross_end_norm is not None
            x = x + self.mixer_dropout(self.cross_end_norm(self.cross(self.cross_norm(x), ctx)))
        return x + self.dropout(self.mlp_end_norm(self._feed(self.mlp_norm(x), ctx)))


class PreNormMoe(PreNorm):
    """The same with a mixture of experts, which keeps its router scores in the context."""

    def _feed(self, x: Tensor, ctx: Context) -> Tensor:
        out: Tensor = self.mlp(x, ctx)
        return out
