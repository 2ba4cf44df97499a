"""Plug-ins: entries that other packages and the user's own modules add to the registries.

A package adds them as entry points of the group ``eir_seq.plugins``, a module in a dictionary ``PLUGINS``:

    [project.entry-points."eir_seq.plugins"]        PLUGINS = {
    "outputs.survival" = "toys.survival:Config"         "outputs.survival": "toys.survival:Config",
                                                    }

Both name a group of `eir_seq.registry.GROUPS`, an entry, and ``module:Name`` of what it is; nothing of it is imported
before it is used. Modules are named on the command line or in the user's own ``conf/config.yaml``, never by an
experiment or a bundle, which may have come from elsewhere: a plug-in is code.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.registry import GROUPS

GROUP = "eir_seq.plugins"
"""The group of entry points."""
NAME_KEYS = frozenset(("type", "model_type", "source", "metric"))
"""Keys of an experiment whose values are names of entries."""
READERS_OF_REGISTRIES = ("eir_seq.config.kinds", "eir_seq.models.catalogue")
"""Modules that read the registries when they are imported."""

_modules: dict[str, None] = {}


@functools.cache
def discover() -> None:
    """Register the entry points of all installed packages; imports none of them.

    Raises:
        UserError: an entry point of an unknown group, or a name that is taken.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (_package(point), point.name)):
        _register(point.name, point.value, _package(point))


def load(modules: Sequence[str]) -> None:
    """Register what ``PLUGINS`` of modules lists; the working directory is searched for them, too.

    To be called before anything else of this package is imported that reads the registries.

    Args:
        modules: dotted names.

    Raises:
        UserError: a module that is not there, raises or has no ``PLUGINS``; a name that is taken; a call that is too
            late.
    """
    discover()
    for module in modules:
        origin = _described(module)
        for name, target in _listed(module).items():
            if _is_new(name) and (read := [name for name in READERS_OF_REGISTRIES if name in sys.modules]):
                message = f"{name} comes too late: {read[0]} is imported already; call eir_seq.plugins.load first"
                raise UserError(Fault(f"plug-in {origin}", message))
            _register(name, target, origin)
        _modules[module] = None


def loaded() -> tuple[str, ...]:
    """The modules that `load` has read."""
    return tuple(_modules)


def registered() -> dict[str, str]:
    """All entries from outside, as ``GROUP.NAME``, and the package or module (with its version) of each."""
    return {f"{group}.{name}": origin for group, registry in GROUPS.items() for name, origin in registry.added.items()}


def needed(config: Mapping[str, Any]) -> dict[str, str]:
    """Those of `registered` that an experiment names.

    Args:
        config: as plain mappings.
    """
    names = set(_names(config))
    return {entry: origin for entry, origin in registered().items() if entry.rpartition(".")[2] in names}


def missing(entries: Mapping[str, str]) -> list[Fault]:
    """A fault for each plug-in of which some entries, as `needed` gave them, are registered by nothing here."""
    lacking: dict[str, list[str]] = {}
    for entry, origin in entries.items():
        if _is_new(entry):
            lacking.setdefault(origin, []).append(entry)
    remedy = "which is not here; install it, or name its module with --plugins"
    return [
        Fault("", f"needs {', '.join(found)} of the plug-in {origin}, {remedy}") for origin, found in lacking.items()
    ]


def _names(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _names(item, str(inner))
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, str) and key in NAME_KEYS:
        yield value


def _is_new(entry: str) -> bool:
    group, _, name = entry.partition(".")
    return group not in GROUPS or name not in GROUPS[group]


def _register(entry: str, target: str, origin: str) -> None:
    group, _, name = entry.partition(".")
    if group not in GROUPS or not name:
        message = f"{entry!r} is not GROUP.NAME with a group of {', '.join(GROUPS)}{nearest(group, GROUPS)}"
        raise UserError(Fault(f"plug-in {origin}", message))
    GROUPS[group].add(name, target, origin)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module


def _described(module: str) -> str:
    """The module with its version, where it says one."""
    version = getattr(_imported(module), "__version__", None)
    return f"{module} {version}" if version is not None else module


def _listed(module: str) -> dict[str, str]:
    found = getattr(_imported(module), "PLUGINS", None)
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        message = 'has no dictionary PLUGINS = {"GROUP.NAME": "module:Name"}'
        raise UserError(Fault(f"plug-in {module}", message))
    return dict(found)


def _imported(module: str) -> Any:
    if (here := os.getcwd()) not in map(os.path.abspath, sys.path):
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(Fault(f"plug-in {module}", f"cannot be imported: {reason}")) from error
