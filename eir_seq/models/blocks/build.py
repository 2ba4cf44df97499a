"""What all parts of a model share: a small frozen config that builds a module."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class Part(Protocol):
    """The config of a part: `build` makes the module."""

    def build(self) -> nn.Module:
        """A fresh module; its weights are set by the architecture's initialization."""
        ...


class Sized(Protocol):
    """The config of a part whose width is that of the states it is applied to (norms)."""

    def build(self, size: int) -> nn.Module:
        """A fresh module for states of width `size`."""
        ...
