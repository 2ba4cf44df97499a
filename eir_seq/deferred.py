"""Packages that execute their ``__init__`` only when something is needed of it.

A package may import all of its parts at once: `torchmetrics` imports a hundred metrics, and with them scipy.signal and,
where they are installed, transformers and torchvision. That is two of the four seconds of processor time that
Lightning takes, which needs one class of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

Ready = Mapping[str, Callable[[], Any]]
"""Names of a package that are had without its ``__init__``, and how."""

_executing = threading.RLock()


class DeferredPackage(ModuleType):
    """A package whose submodules can be imported one by one.

    A name of `ready` is made at its first use. Any other name executes the package's ``__init__``, after which it is
    as if it had been imported as usual.
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
        with _executing:
            if isinstance(self, DeferredPackage):
                self.__class__ = ModuleType  # type: ignore[assignment]
                assert self.__spec__ is not None
                assert self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer(package: str, ready: Ready) -> None:
    """Have `import package` not execute its ``__init__``. Nothing changes if it is imported already, or absent.

    Args:
        package: its dotted name; of a subpackage, the parent is deferred, too.
        ready: names that do not need the ``__init__``.
    """
    parent, _, own = package.rpartition(".")
    if package in sys.modules or (parent and not isinstance(sys.modules.get(parent), DeferredPackage)):
        return
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return
    found = module_from_spec(spec)
    found.__class__ = DeferredPackage
    found.__dict__["_ready"] = dict(ready)
    sys.modules[package] = found
    if parent:
        setattr(sys.modules[parent], own, found)


def defer_torchmetrics() -> None:
    """Import the core of torchmetrics, and leave its metrics to those who import them.

    Of the package itself Lightning reads its version and two classes. Most modules of torchmetrics need
    `torchmetrics.utilities` before them, which is imported here: the rest can then be imported in any order.
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
    import_module(f"{name}.utilities")
