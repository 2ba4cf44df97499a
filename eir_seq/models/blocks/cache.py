"""Keys and values of earlier tokens, kept between calls while a text is generated."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Cache:
    """One slot of (keys, values) per mixer, each (batch, heads, length, head_size)."""

    def __init__(self) -> None:
        self.length = 0
        self._slots: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def extend(self, mixer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens to the slot of `mixer`; returns all of them."""
        if mixer in self._slots:
            old_key, old_value = self._slots[mixer]
            key, value = torch.cat((old_key, key), 2), torch.cat((old_value, value), 2)
        self._slots[mixer] = (key, value)
        return key, value

    def read(self, mixer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """What the slot of `mixer` holds (cross-attention fills it once)."""
        return self._slots.get(mixer)

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (beam search)."""
        self._slots = {
            mixer: (key.index_select(0, rows), value.index_select(0, rows))
            for mixer, (key, value) in self._slots.items()
        }
