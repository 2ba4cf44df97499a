"""What mixers keep of earlier tokens between calls, while a text is generated."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

LEAST_ROOM, ROOM = 64, 0.25
"""Tokens that a slot makes room for when it grows: this many, or this share of its length."""


@dataclass
class _Slot:
    """Keys and values of a mixer, each (batch, heads, room, head_size), which are filled from `first` up to `end`."""

    key: Tensor
    value: Tensor
    end: int
    first: int = 0

    def append(self, key: Tensor, value: Tensor) -> None:
        """Write those of new tokens after the others; what is already there is copied only where room runs out."""
        new, earlier = key.shape[2], self.filled()
        # what a gradient needs must not be written over, and a graph of dynamic sizes has no room to count
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            self._hold(torch.cat((earlier[0], key), 2), torch.cat((earlier[1], value), 2), self.length + new)
            return
        if self.end + new > self.key.shape[2]:
            room = _with_slack(self.length + new)
            self._hold(_with_capacity(earlier[0], room), _with_capacity(earlier[1], room), self.length)
        self.key[:, :, self.end : self.end + new] = key
        self.value[:, :, self.end : self.end + new] = value
        self.end += new

    def forget_but(self, count: int) -> None:
        """Keep the last `count` tokens only; the memory of others is given back once it is worth a copy."""
        self.first = max(self.first, self.end - count)
        if self.key.shape[2] > 2 * _with_slack(self.length):
            key, value = self.filled()
            self._hold(key.clone(), value.clone(), self.length)

    @property
    def length(self) -> int:
        """How many tokens are kept."""
        return self.end - self.first

    def filled(self) -> tuple[Tensor, Tensor]:
        """Keys and values, without the room."""
        return self.key[:, :, self.first : self.end], self.value[:, :, self.first : self.end]

    def _hold(self, key: Tensor, value: Tensor, length: int) -> None:
        self.key, self.value, self.first, self.end = key, value, 0, length


def _with_slack(length: int) -> int:
    return length + max(LEAST_ROOM, int(ROOM * length))


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.index_select(0, rows.to(x.device))  # layers may be on several devices


def _with_capacity(x: Tensor, room: int) -> Tensor:
    larger = x.new_empty(*x.shape[:2], room, x.shape[3])
    larger[:, :, : x.shape[2]] = x
    return larger


class Cache:
    """One slot of keys and values per mixer, or the state of a mixer that is recurrent."""

    def __init__(self) -> None:
        self.length = 0
        self._slots: dict[nn.Module, _Slot] = {}
        self._states: dict[nn.Module, tuple[Tensor, ...]] = {}
        self._shared: dict[Any, Any] = {}
        self._memories: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def snapshot(self) -> Cache:
        """Another cache of the same tensors; what is appended to one does not show in the other.

        That holds with gradients, where a slot never writes to memory that it has.
        """
        other = Cache()
        other.length = self.length
        other._slots = {mixer: copy(slot) for mixer, slot in self._slots.items()}
        other._states, other._memories = dict(self._states), dict(self._memories)
        other._shared = self._shared
        return other

    def extend(self, mixer: nn.Module, key: Tensor, value: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        """Append keys and values (batch, heads, new tokens, head_size) to the slot of `mixer`; returns all of them.

        With a `window` the slot keeps no more than later tokens can see, `window` - 1 of them.
        Without gradients the next call may write after what is returned, in the same memory.
        """
        if (slot := self._slots.get(mixer)) is None:
            slot = self._slots[mixer] = _Slot(key, value, key.shape[2])
        else:
            slot.append(key, value)
        everything = slot.filled()
        if window is not None:
            slot.forget_but(window - 1)
        return everything

    def read(self, mixer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """What the slot of `mixer` holds."""
        slot = self._slots.get(mixer)
        return None if slot is None else slot.filled()

    def release(self, mixer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """What the slot of `mixer` holds, or its memory, to be kept elsewhere from now on."""
        slot = self._slots.pop(mixer, None)
        return self._memories.pop(mixer, None) if slot is None else slot.filled()

    def as_tuples(self) -> tuple[tuple[Tensor, ...], ...]:
        """The same in the older form of transformers, see `tuple_cache`."""
        memories = [(key.transpose(1, 2), value.transpose(1, 2)) for key, value in self._memories.values()]
        own = [slot.filled() for slot in self._slots.values()]
        return tuple(x + y for x, y in zip(own, memories, strict=True)) if memories else tuple(own)

    def keep_memory(self, mixer: nn.Module, key: Tensor, value: Tensor) -> None:
        """Keep keys and values of the memory, each (batch, ...), which do not grow (cross-attention)."""
        self._memories[mixer] = (key, value)

    def memory(self, mixer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """The keys and values of the memory; None in the first pass."""
        return self._memories.get(mixer)

    def keep_state(self, mixer: nn.Module, *state: Tensor) -> None:
        """Keep copies of tensors (batch, ...) as the state of `mixer` after the last token."""
        self._states[mixer] = tuple(tensor.clone() for tensor in state)  # they may be views of a whole text

    def replace_state(self, mixer: nn.Module, *state: Tensor) -> None:
        """The same with tensors that nothing else holds."""
        self._states[mixer] = state

    def state(self, mixer: nn.Module) -> tuple[Tensor, ...] | None:
        """The state of `mixer`; None before the first token."""
        return self._states.get(mixer)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, computed once for all texts and all calls."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def reorder(self, rows: Tensor, *, same_memory: bool = False) -> None:
        """Keep these rows of the batch, in this order (beam search).

        `same_memory`: each row takes the place of one with an equal memory, which then need not be moved.
        """
        for slot in self._slots.values():
            slot.key, slot.value = _rows(slot.key, rows), _rows(slot.value, rows)
        self._states = {mixer: tuple(_rows(tensor, rows) for tensor in state) for mixer, state in self._states.items()}
        if not same_memory:
            self._memories = {
                mixer: (_rows(key, rows), _rows(value, rows)) for mixer, (key, value) in self._memories.items()
            }
