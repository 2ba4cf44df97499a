"""Fusion: the feature vectors of all inputs become one feature vector per output."""

from __future__ import annotations

from eir_seq.config.fusion import FusionBase
from eir_seq.fusion.layers import Fusion
from eir_seq.registry import imported

__all__ = ["Fusion", "build_fusion"]


def build_fusion(config: FusionBase, sizes: dict[str, int], outputs: list[str]) -> Fusion:
    """The fusion that `config` describes.

    Args:
        config: the section of the experiment.
        sizes: by input, the width of what the fusion reads: of states where it reads those, else of vectors.
        outputs: which get fused features, ``{output: (batch, fusion.size_of(output))}``.

    Raises:
        UserError: the hidden size cannot be divided among the attention heads.
    """
    config = config.chosen(list(sizes))
    fusion: Fusion = imported(config.IMPLEMENTATION)(config, sizes, outputs)
    fusion.reads_states = config.reads_states
    return fusion
