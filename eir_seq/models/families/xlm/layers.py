"""The layers of xlm, which blank padding, and language embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.residual import Layer, LayerPlan, PostNorm, PreNorm


class LanguageEmbedding(nn.Embedding, Configured):
    """A vector per language; none if the caller does not tell the languages."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """`count`: number of languages."""

        count: int

        features: ClassVar = ("langs",)

    def __init__(self, config: Config, size: int) -> None:
        super().__init__(config.count, size)

    def forward(self, features: dict[str, Tensor], positions: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """`langs`: (...,) numbers of languages -> (..., size); a zero where left out."""
        langs = features.get("langs")
        return self.weight.new_zeros(()) if langs is None else super().forward(langs)


@dataclass(frozen=True, kw_only=True)
class BlankingPlan(LayerPlan):
    """`sees_padding`: attention goes by the order of places alone."""

    sees_padding: bool = False


class _Blanking(Layer):
    """States at padding are zeros again after each layer."""

    def __init__(self, plan: BlankingPlan) -> None:
        super().__init__(plan)
        self.sees_padding = plan.sees_padding

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        x = super().forward(x, replace(ctx, keys=None) if self.sees_padding else ctx)
        real = ctx.layout.mask
        return x if real is None or ctx.layout.packed else x.masked_fill(~real[..., None], 0.0)


class BlankingPostNorm(_Blanking, PostNorm):
    """Norms after the sublayers."""


class BlankingPreNorm(_Blanking, PreNorm):
    """Norms before the sublayers."""
