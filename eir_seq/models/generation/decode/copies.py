"""Light copies of modules: the same tensors and the same `forward`, without what torch adds to a call of a module.

A copy is an instance of a subclass of its module's class, in evaluation, whose parameters, buffers and parts are plain
attributes. It holds no tensors of its own, sees whatever changes in those of the model, and leaves the model as it is,
so that several threads may have copies of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

Make = Callable[[Any, "Copies"], nn.Module | None]
"""A module -> its copy where there is a better one than the plain one, else None."""


class Copies:
    """Makes copies, one of each module.

    Attributes:
        special: how modules of a class (subclasses not included) are copied.
        lighter: classes -> subclasses of them whose `forward` is faster, and is what that of other subclasses finds
            as `super().forward`.
        kept: modules with hooks, or that are compiled: they stand for themselves, with all of their parts.
    """

    def __init__(
        self, special: Mapping[type[nn.Module], Make], lighter: Mapping[type[nn.Module], type[nn.Module]]
    ) -> None:
        self.special, self.lighter = special, lighter
        self.kept: list[nn.Module] = []
        self._made: dict[int, nn.Module] = {}

    def of(self, module: nn.Module) -> nn.Module:
        """The copy of a module and of its parts."""
        if (made := self._made.get(id(module))) is not None:
            return made
        if not _only_forward(module):
            self.kept.append(module)
            copy = module
        else:
            make = self.special.get(type(module))
            found = None if make is None or not all(map(_only_forward, module.modules())) else make(module, self)
            copy = self.plain(module) if found is None else found
        self._made[id(module)] = copy
        return copy

    def plain(self, module: nn.Module, kind: type[nn.Module] | None = None, **more: Any) -> Any:
        """A copy that computes as `kind` does, by default as its own class, with `more` attributes."""
        kind = kind or type(module)
        light = next((light for base, light in self.lighter.items() if issubclass(kind, base)), None)
        copy = object.__new__(_callable(kind, light))
        state = vars(module)
        parts = {name: None if part is None else self.of(part) for name, part in state["_modules"].items()}
        tensors: dict[str, Tensor | None] = {**state["_parameters"], **state["_buffers"]}
        vars(copy).update({**state, **tensors, **parts, "_modules": parts, "training": False, **more})
        return copy


def _only_forward(module: nn.Module) -> bool:
    """Whether a call of the module is a call of its class's `forward` and nothing besides."""
    state = vars(module)
    hooked = any(state[name] for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
    compiled = state.get("_compiled_call_impl") is not None or "forward" in state
    return not (hooked or compiled or state["_backward_pre_hooks"] or torch_module._has_any_global_hook())


def _same(module: nn.Module, x: Tensor) -> Tensor:  # noqa: ARG001
    return x


_CALLABLE: dict[Any, type[nn.Module]] = {}


def _callable(kind: type[nn.Module], light: type[nn.Module] | None) -> type[nn.Module]:
    """The class whose call is `forward`; dropout does nothing."""
    if (made := _CALLABLE.get((kind, light))) is not None:
        return made
    bases = (kind,) if light is None else (kind, light) if kind not in light.__mro__ else (light,)
    made = type(kind.__name__, bases, {"__module__": kind.__module__})
    made.__call__ = _same if issubclass(kind, nn.Dropout | nn.Identity) else made.forward  # type: ignore[method-assign]
    return _CALLABLE.setdefault((kind, light), made)
