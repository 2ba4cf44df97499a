"""Position ids of tokens: from an arange, from the input ids, or from the attention mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ArangePositionIds:
    """Positions 0, 1, 2 ... whatever the tokens are, moved by `offset`."""

    offset: int = 0

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (1, length)."""
        return torch.arange(start, start + shape[1], device=device)[None] + self.offset


@dataclass(frozen=True)
class InputPositionIds:
    """Real tokens are counted from `padding_id` + 1; padding keeps `padding_id` itself (roberta).

    Tokens given as embeddings all count as real; which cached ones are, the mask says.
    """

    padding_id: int

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (batch or 1, length)."""
        if ids is None:
            return torch.arange(start, start + shape[1], device=device)[None] + self.padding_id + 1
        real = (ids != self.padding_id).long()
        earlier = start if mask is None else mask[:, :start].bool().sum(1, keepdim=True)
        return (real.cumsum(1) + earlier) * real + self.padding_id


@dataclass(frozen=True)
class MaskPositionIds:
    """Tokens that the attention mask leaves are counted from `offset`; what it masks has `offset` - 1 (opt)."""

    offset: int = 0

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (batch or 1, length); the mask holds the cached tokens too."""
        if mask is None:
            return torch.arange(start, start + shape[1], device=device)[None] + self.offset
        real = mask.bool().long()
        return (real.cumsum(1) * real - 1 + self.offset)[:, start:]


PositionIds = ArangePositionIds | InputPositionIds | MaskPositionIds
