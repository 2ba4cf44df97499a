"""What all parts of a model share: a small frozen config that builds a module."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

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


class Configured(nn.Module):
    """A module made of its nested `Config`, a small frozen dataclass of what varies: ``Module.Config(...).build()``.

    A subclass may widen `Config`, or leave it as it is and has one of its own all the same, which builds the subclass.
    """

    class Config:
        """Base of the nested ones."""

        module: ClassVar[type[nn.Module]]

        def build(self, *size: int) -> Any:
            """A fresh module; `size`: width of the states, where the config does not tell it."""
            return self.module(self, *size)

    def __init__(self, *made_of: Any) -> None:  # noqa: ARG002
        super().__init__()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "Config" not in vars(cls):
            cls.Config = type("Config", (cls.Config,), {})  # type: ignore[misc,assignment]
        cls.Config.module = cls
