"""Tensors of layers as states: positions by features, whatever their layout is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from eir_seq.models.output import ModelOutput, TokenStates


@dataclass(frozen=True)
class Shape:
    """The shape of one row of a layer's tensor: (size,), (positions, size) or (channels, height, width).

    Attributes:
        sizes: of each axis; None for positions whose number varies with the rows, such as those of a text.

    Example:
        >>> import torch
        >>> picture = Shape((3, 4, 5))
        >>> picture.positions, picture.size
        (20, 3)
        >>> picture.states(torch.zeros(2, 3, 4, 5)).shape
        torch.Size([2, 20, 3])
    """

    sizes: tuple[int | None, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Height and width of what has channels first; empty for others."""
        return tuple(size for size in self.sizes[1:] if size is not None) if len(self.sizes) > 2 else ()

    @property
    def positions(self) -> int | None:
        """How many there are, one of a vector; None where that varies."""
        if self.grid:
            return math.prod(self.grid)
        return self.sizes[0] if len(self.sizes) == 2 else 1

    @property
    def size(self) -> int:
        """Features of each position."""
        size = self.sizes[0] if self.grid else self.sizes[-1]
        assert size is not None, "only positions vary"
        return size

    @property
    def values(self) -> int:
        """Of all positions; where their number varies, of one."""
        return (self.positions or 1) * self.size

    def fits(self, x: Tensor) -> bool:
        """Whether a tensor (batch, ...) has this shape."""
        own = x.shape[1:]
        return len(own) == len(self.sizes) and all(
            size in (None, found) for size, found in zip(self.sizes, own, strict=True)
        )

    def states(self, x: Tensor) -> Tensor:
        """(batch, ...) to (batch, positions, size)."""
        if self.grid:
            return x.flatten(2).transpose(1, 2)
        return x[:, None] if len(self.sizes) == 1 else x

    def restored(self, states: Tensor) -> Tensor:
        """The inverse of `states`."""
        if self.grid:
            return states.transpose(1, 2).reshape(len(states), self.size, *self.grid)
        return states[:, 0] if len(self.sizes) == 1 else states

    def __str__(self) -> str:
        return " x ".join("length" if size is None else str(size) for size in self.sizes)


def tensor_in(value: Any) -> Tensor | None:
    """The tensor of floating-point numbers that a layer gives or reads: itself, or within what else it gives."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, TokenStates):
        return value.states
    if isinstance(value, tuple | list):
        return next((found for item in value if (found := tensor_in(item)) is not None), None)
    if isinstance(value, Mapping):
        key = _main(value)
        return None if key is None else tensor_in(value[key])
    return None


def with_tensor(value: Any, tensor: Tensor) -> Any:
    """The same value with another tensor in the place of `tensor_in`."""
    if isinstance(value, Tensor):
        return tensor
    if isinstance(value, TokenStates):
        return replace(value, states=tensor)
    if isinstance(value, tuple | list):
        place = next(place for place, item in enumerate(value) if tensor_in(item) is not None)
        return type(value)([*value[:place], with_tensor(value[place], tensor), *value[place + 1 :]])
    assert isinstance(value, Mapping)
    main = _main(value)
    assert main is not None
    same = {key for key, item in value.items() if item is value[main]}
    replaced = with_tensor(value[main], tensor)
    found = {key: replaced if key in same else item for key, item in value.items()}
    return ModelOutput(found) if isinstance(value, ModelOutput) else found


def _main(value: Mapping[str, Any]) -> str | None:
    """The key of what a layer gives that has names: its last hidden states, or what all names stand for."""
    if "last_hidden_state" in value:
        return "last_hidden_state"
    keys = [key for key, item in value.items() if tensor_in(item) is not None]
    return keys[0] if keys and all(value[key] is value[keys[0]] for key in keys) else None
