"""Fusion: the feature vectors of all inputs become one feature vector per output."""

from __future__ import annotations

from eir_seq.config.fusion import FusionBase
from eir_seq.fusion.layers import Fusion
from eir_seq.registry import imported

__all__ = ["Fusion", "build_fusion"]


def build_fusion(config: FusionBase, sizes: dict[str, int], outputs: list[str]) -> Fusion:
    """The fusion that `config` describes, for inputs of the given feature sizes.

    The result maps ``{input: (batch, size)}`` to ``{output: (batch, fusion.output_size)}``.

    Raises:
        UserError: the hidden size cannot be divided among the attention heads.
    """
    fusion: Fusion = imported(config.IMPLEMENTATION)(config, sizes, outputs)
    return fusion
