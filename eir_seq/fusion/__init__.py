"""Fusion: the feature vectors of all inputs become one feature vector per output."""

from __future__ import annotations

from eir_seq.config.fusion import AttentionFusionConfig, ConcatFusionConfig, FusionConfig, GatedExpertsFusionConfig
from eir_seq.fusion.layers import AttentionFusion, ConcatFusion, Fusion, GatedExpertsFusion, MlpResidualFusion

__all__ = ["Fusion", "build_fusion"]


def build_fusion(config: FusionConfig, sizes: dict[str, int], outputs: list[str]) -> Fusion:
    """The fusion that `config` describes, for inputs of the given feature sizes.

    The result maps ``{input: (batch, size)}`` to ``{output: (batch, fusion.output_size)}``.

    Raises:
        UserError: the hidden size cannot be divided among the attention heads.
    """
    if isinstance(config, ConcatFusionConfig):
        return ConcatFusion(sizes, outputs)
    if isinstance(config, AttentionFusionConfig):
        return AttentionFusion(config, sizes, outputs)
    if isinstance(config, GatedExpertsFusionConfig):
        return GatedExpertsFusion(config, sizes, outputs)
    return MlpResidualFusion(config, sizes, outputs)
