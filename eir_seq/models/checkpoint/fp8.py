"""Weights that are published in 8 bits (fp8) with the scales that they are multiplied by.

The layouts are those of transformers' quantizers: one scale per tensor or per output channel (`weight_scale`), or one
per block of the weight (`weight_scale_inv`, which is multiplied by too, whatever its name says).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError

SCALES = ("_scale_inv", "_scale")
BLOCK = (128, 128)
"""Rows and columns of a weight that share a scale, where the config does not say otherwise."""


def dequantized(tensors: dict[str, Tensor], config: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The tensors with 8-bit ones as float32, times their scales, which are left out.

    Those without a scale stay as they are.

    Args:
        tensors: those of a file; changed.
        config: the contents of config.json, for the size of blocks.
        source: the folder, for messages.

    Raises:
        UserError: a scale that does not fit its weight, or values that are not finite.

    >>> weight, scale = torch.ones(2, 3).to(torch.float8_e4m3fn), torch.tensor([[2.0], [3.0]])
    >>> dequantized({"a.weight": weight, "a.weight_scale": scale}, {}, "")["a.weight"][:, 0]
    tensor([2., 3.])
    """
    for name in [name for name, x in tensors.items() if x.is_floating_point() and x.dtype.itemsize == 1]:
        found = next((name + suffix for suffix in SCALES if name + suffix in tensors), None)
        if found is None:
            continue
        values = tensors[name].float()
        scale = _parallel(tensors.pop(found).float(), values.shape, _block(config))
        if scale is None:
            message = f"tensor {found!r} is no scale per tensor, output channel or block of {name!r}"
            raise UserError(Fault(source, message))
        tensors[name] = values.mul_(scale)
        if not bool(torch.isfinite(tensors[name]).all()):
            raise UserError(Fault(source, f"tensor {name!r} holds values that are not finite"))
    return tensors


def _block(config: Mapping[str, Any]) -> tuple[int, int]:
    given = config.get("quantization_config")
    block = given.get("weight_block_size") if isinstance(given, Mapping) else None
    if isinstance(block, list) and len(block) == 2 and all(type(size) is int and size > 0 for size in block):
        return block[0], block[1]
    return BLOCK


def _parallel(scale: Tensor, shape: torch.Size, block: tuple[int, int]) -> Tensor | None:
    """A scale that is multiplied with a weight of this shape; None if it fits none."""
    if scale.numel() == 1:
        return scale.reshape(())
    if not shape or len(shape) < 2:
        return scale if scale.shape == shape else None
    if scale.shape in (shape[:1], (shape[0], 1)):
        return scale.reshape(-1, *[1] * (len(shape) - 1))
    if len(shape) == 2 and scale.shape == tuple(-(-side // size) for side, size in zip(shape, block, strict=True)):
        rows = scale.repeat_interleave(block[0], 0)[: shape[0]]
        return rows.repeat_interleave(block[1], 1)[:, : shape[1]]
    return None
