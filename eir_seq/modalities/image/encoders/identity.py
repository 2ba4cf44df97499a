"""Pixels as they are."""

from __future__ import annotations

from torch import Tensor

from eir_seq.modalities.encoders.grids import IdentityEncoder


class PixelIdentity(IdentityEncoder):
    """`pixel_values` (batch, channels, height, width), one value after another."""

    def encode(self, pixel_values: Tensor) -> Tensor:  # type: ignore[override]  # the tensor by name
        """Shape: (batch, channels, height, width) to (batch, output_size)."""
        return super().encode(pixel_values)
