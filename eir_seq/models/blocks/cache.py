"""What mixers keep of earlier tokens between calls, while a text is generated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEAST_ROOM, ROOM = 64, 0.25
"""Tokens that a slot makes room for when it grows: this many, or this share of its length."""


@dataclass
class _Slot:
    """Keys and values of a mixer, each (batch, heads, room, head_size), of which the first `length` are filled."""

    key: Tensor
    value: Tensor
    length: int

    def append(self, key: Tensor, value: Tensor) -> None:
        """Write those of new tokens behind the others; what is already there is copied only where room runs out."""
        length = self.length + key.shape[2]
        if torch.is_grad_enabled():  # what a gradient needs must not be written over
            earlier = self.filled()
            self.key, self.value = torch.cat((earlier[0], key), 2), torch.cat((earlier[1], value), 2)
        else:
            if length > self.key.shape[2]:
                room = length + max(LEAST_ROOM, int(ROOM * length))
                self.key, self.value = (_roomy(x, self.length, room) for x in (self.key, self.value))
            self.key[:, :, self.length : length] = key
            self.value[:, :, self.length : length] = value
        self.length = length

    def filled(self) -> tuple[Tensor, Tensor]:
        """Keys and values, without the room."""
        return self.key[:, :, : self.length], self.value[:, :, : self.length]


def _roomy(x: Tensor, length: int, room: int) -> Tensor:
    larger = x.new_empty(*x.shape[:2], room, x.shape[3])
    larger[:, :, :length] = x[:, :, :length]
    return larger


class Cache:
    """One slot of keys and values per mixer, or the state of a mixer that is recurrent."""

    def __init__(self) -> None:
        self.length = 0
        self._slots: dict[nn.Module, _Slot] = {}
        self._states: dict[nn.Module, tuple[Tensor, ...]] = {}

    def extend(self, mixer: nn.Module, key: Tensor, value: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        """Append keys and values (batch, heads, new tokens, head_size) to the slot of `mixer`; returns all of them.

        With a `window` the slot keeps no more than later tokens can see, `window` - 1 of them.
        Without gradients the next call may write behind what is returned, in the same memory.
        """
        if (slot := self._slots.get(mixer)) is None:
            slot = self._slots[mixer] = _Slot(key, value, key.shape[2])
        else:
            slot.append(key, value)
        everything = slot.filled()
        if window is not None and slot.length >= window:
            kept = [x[:, :, slot.length - window + 1 :].clone() for x in everything]
            self._slots[mixer] = _Slot(kept[0], kept[1], window - 1)
        return everything

    def read(self, mixer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """What the slot of `mixer` holds (cross-attention fills it once)."""
        slot = self._slots.get(mixer)
        return None if slot is None else slot.filled()

    def keep_state(self, mixer: nn.Module, *state: Tensor) -> None:
        """Keep tensors (batch, ...) as the state of `mixer` behind the last token, in place of an earlier one."""
        self._states[mixer] = state

    def state(self, mixer: nn.Module) -> tuple[Tensor, ...] | None:
        """The state of `mixer`; None in front of the first token."""
        return self._states.get(mixer)

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (beam search)."""
        for slot in self._slots.values():
            slot.key, slot.value = slot.key.index_select(0, rows), slot.value.index_select(0, rows)
        self._states = {
            mixer: tuple(tensor.index_select(0, rows) for tensor in state) for mixer, state in self._states.items()
        }
