"""The residual convolutional network that grids have, on pixels."""

from __future__ import annotations

from torch import Tensor

from eir_seq.modalities.encoders.grids import CnnEncoder
from eir_seq.models.output import TokenStates


class Cnn(CnnEncoder):
    """`pixel_values` (batch, channels, height, width) to the positions that are left, and to a vector."""

    def read(self, pixel_values: Tensor) -> TokenStates:  # type: ignore[override]  # the tensor by name
        """States (batch, positions, channels).

        Args:
            pixel_values: (batch, channels, height, width).
        """
        return super().read(pixel_values)
