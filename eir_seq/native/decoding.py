"""Steps of decoding by the native kernels: a list of operations on fixed buffers, which one call runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eir_seq.native import library
from eir_seq.native.norms import LANES

MOST_ROWS = 8
"""Rows that the kernel multiplies with a weight as it is; for more, torch's product and a transposed one are faster."""
WIDEST_HEAD = 256
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu")


def serves(x: Tensor) -> bool:
    """Whether steps with states like `x` are computed by the kernels, here and now."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and library.is_eager()
        and library.available()
    )


def fits(*widths: int) -> bool:
    """Whether the kernels take states of such widths."""
    return all(width % LANES == 0 for width in widths)


def program() -> Any:
    """An empty `DecodingProgram`, see ``csrc/decoding.cpp``."""
    return library.operations().DecodingProgram()
