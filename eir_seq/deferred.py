"""Modules that are executed only when something is needed of them.

A package may import all of its parts at once: `torchmetrics` imports a hundred metrics, and with them scipy.signal and,
where they are installed, transformers and torchvision. That is two of the four seconds of processor time that
Lightning takes, which needs one class of it. Or it imports another package to compare types that it never meets:
Lightning torch._dynamo with sympy, pyarrow pandas.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

Ready = Mapping[str, Callable[[], Any]]
"""Names of a module that are had without executing it, and how."""

_executing = threading.RLock()


class DeferredModule(ModuleType):
    """A module that waits to be executed.

    A name of `ready` is made at its first use. Any other name executes the module, after which it is as if it had been
    imported as usual.
    """

    def __getattr__(self, name: str) -> Any:
        ready: Ready = self.__dict__.get("_ready", {})
        if name in ready:
            try:
                value = ready[name]()
            except (ImportError, AttributeError):  # another version of the package
                pass
            else:
                setattr(self, name, value)
                return value
        if name == "__path__":  # which an import asks of every module; a package has it from the start
            raise AttributeError(name)
        return getattr(executed(self), name)


def executed(module: ModuleType) -> ModuleType:
    """The module, executed if it has been waiting."""
    with _executing:
        if isinstance(module, DeferredModule):
            module.__class__ = ModuleType  # type: ignore[assignment]
            assert module.__spec__ is not None
            assert module.__spec__.loader is not None
            module.__spec__.loader.exec_module(module)
    return module


def defer(name: str, ready: Ready) -> None:
    """Have an import of a module not execute it. Nothing changes if it is imported already, or absent.

    Modules of a package can be imported while its ``__init__`` waits.

    Args:
        name: its dotted name; the package that it is in is imported or deferred already.
        ready: names for which it is not executed.
    """
    parent, _, last = name.rpartition(".")
    if name in sys.modules or (parent and parent not in sys.modules) or (spec := find_spec(name)) is None:
        return
    found = module_from_spec(spec)
    found.__class__ = DeferredModule
    found.__dict__["_ready"] = dict(ready)
    sys.modules[name] = found
    if parent:
        setattr(sys.modules[parent], last, found)


def defer_torchmetrics() -> None:
    """Import the core of torchmetrics, and leave its metrics to those who import them.

    Of the package itself Lightning reads its version and two classes. Most modules of torchmetrics need
    `torchmetrics.utilities` before them, which is executed here: the rest can then be imported in any order. What plots
    metrics imports matplotlib when it is called.
    """
    name = "torchmetrics"
    defer(
        name,
        {
            "__version__": lambda: import_module(f"{name}.__about__").__version__,
            "_logger": lambda: logging.getLogger(name),
            "Metric": lambda: import_module(f"{name}.metric").Metric,
            "MetricCollection": lambda: import_module(f"{name}.collections").MetricCollection,
        },
    )
    defer(f"{name}.functional", {})
    defer(f"{name}.utilities", {})
    plot = f"{name}.utilities.plot"
    types = dict.fromkeys(("_AX_TYPE", "_PLOT_OUT_TYPE"), lambda: Any)
    defer(plot, {**types, "plot_single_or_multi_val": lambda: _later(plot, "plot_single_or_multi_val")})
    executed(import_module(f"{name}.utilities"))


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is executed when the function is called."""

    def called(*args: Any, **options: Any) -> Any:
        return getattr(executed(sys.modules[module]), name)(*args, **options)

    return called


class _Compiled(type):
    """Of a class whose instances are the modules that torch.compile made."""

    def __instancecheck__(cls, value: object) -> bool:
        compiling = sys.modules.get("torch._dynamo.eval_frame")
        return compiling is not None and isinstance(value, compiling.OptimizedModule)


def _never_compiled(function: Callable[..., Any], recursive: bool = True, **_: Any) -> Callable[..., Any]:
    """The function, kept from torch.compile once that is imported."""

    @wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        compiling = sys.modules.get("torch._dynamo")
        found = function if compiling is None else compiling.disable(function, recursive)
        return found(*args, **options)

    return called


@contextmanager
def without_dynamo() -> Iterator[None]:
    """While Lightning is imported, have it import no torch._dynamo, and with that no sympy, which takes a second.

    It asks whether modules are compiled, and keeps a method from it. What compiles modules imports torch._dynamo.
    """
    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(name)
    stand_in.OptimizedModule = _Compiled("OptimizedModule", (), {})
    stand_in.disable = _never_compiled
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


class _PandasFinder(MetaPathFinder):
    """Has pyarrow find no pandas when it looks, and look again once something else imports it."""

    def __init__(self, arrow: Any) -> None:
        self._shim = arrow.lib._pandas_api
        self._looking = True
        sys.meta_path.insert(0, self)
        arrow.array([0])
        self._looking = False

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname != "pandas":
            return
        if self._looking:
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)
        sys.meta_path.remove(self)
        self._shim.__init__()


def defer_pandas() -> None:
    """Have pyarrow not import pandas to see whether a list of values is one of its series.

    It looks when it makes its first array: here, where it finds none. What needs pandas, such as `to_pandas`, imports
    it all the same, and what imports it can give series to pyarrow. Of lists it will not know ``pandas.NA`` and
    ``pandas.NaT``: this is for processes that run no code of users. Nothing changes where pandas is imported already,
    or pyarrow is not.
    """
    arrow = sys.modules.get("pyarrow")
    deferred = "pandas" in sys.modules or any(isinstance(finder, _PandasFinder) for finder in sys.meta_path)
    if arrow is not None and not deferred and hasattr(arrow.lib, "_pandas_api"):
        _PandasFinder(arrow)
