"""The version of the code that made a cached result: sources and libraries, so that an edit rebuilds it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_WITHOUT = ("eir_seq.models", "eir_seq.config", "eir_seq.cache")
"""Packages that what is cached depends on by values alone, which keys hold anyway, or not at all."""
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]*))", re.M)
_DISTRIBUTIONS = {"PIL": "pillow", "yaml": "PyYAML", "cv2": "opencv-python", "sklearn": "scikit-learn"}
"""Those that are not called as their packages are, as far as they are common: to find the others takes a second."""
_STARTED = time.time()


def code_version(*places: type | str) -> str:
    """Hash of the source that some classes are made of, and of the versions of the libraries that it imports.

    It covers the modules of the classes and of their bases, all that these import of their own packages (but models and
    configs), and the minor version of Python. Sources that were edited while this process ran say nothing of the code
    that runs: the hash is one that no other process has.

    Args:
        places: classes, or names of modules.

    >>> from eir_seq.spool import Spool
    >>> code_version(Spool) == code_version("eir_seq.spool")
    True
    """
    modules: set[str] = set()
    for place in places:
        modules |= {place} if isinstance(place, str) else {base.__module__ for base in place.__mro__}
    return _version_of(frozenset(modules))


@functools.cache
def _version_of(names: frozenset[str]) -> str:
    packages = {name.partition(".")[0] for name in names if _is_own(name)}
    sources: dict[str, bytes] = {}
    libraries: set[str] = set()
    newest, left = 0.0, list(names)
    while left:
        name = left.pop()
        package = name.partition(".")[0]
        if package not in packages:
            libraries.add(package)
        elif name not in sources and not f"{name}.".startswith(tuple(f"{other}." for other in _WITHOUT)):
            if (path := _file(name)) is None:
                continue
            sources[name] = path.read_bytes()
            newest = max(newest, path.stat().st_mtime)
            left += _imported(sources[name].decode(errors="replace"), name, path)
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    if newest > _STARTED:
        digest.update(f"{os.getpid()} {newest} {_STARTED}".encode())
    for name, source in sorted(sources.items()):
        digest.update(f"{name} {len(source)}:".encode() + source)
    digest.update(repr([(name, _version(name)) for name in sorted(libraries - sys.stdlib_module_names)]).encode())
    return digest.hexdigest()


def _is_own(module: str) -> bool:
    """Whether the source of a module is hashed: modules of eir_seq and of classes from elsewhere, but no library."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return False
    path = _file(module)
    installed = path is None or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return module.startswith("eir_seq.") or not installed


def _file(module: str) -> Path | None:
    """The source of a module of a package that is loaded; None if there is none (a name that is no module)."""
    package, *rest = module.split(".")
    loaded = sys.modules.get(package)
    folders = list(getattr(loaded, "__path__", ()))
    if loaded is None or not folders:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file is not None and not rest and Path(file).suffix == ".py" else None
    paths = [os.path.join(folder, *rest) for folder in folders]
    found = (
        file for path in paths for file in (os.path.join(path, "__init__.py"), f"{path}.py") if os.path.isfile(file)
    )
    return next(map(Path, found), None)


def _imported(source: str, module: str, path: Path) -> Iterator[str]:
    """Modules that a source may import, lazily too; some of the names are none."""
    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for match in _IMPORT.finditer(source):
        origin, names, plain = match.groups()
        if plain is not None:
            yield from (name.split()[0] for name in plain.split(",") if name.strip())
            continue
        levels = len(origin) - len(origin.lstrip("."))
        base = ".".join(parts[: len(parts) - levels + 1]) if levels else ""
        base = ".".join(filter(None, (base, origin.lstrip("."))))
        yield base
        yield from (f"{base}.{name}" for name in re.findall(r"(?<![\w.])[A-Za-z_]\w*", names))


@functools.cache
def _version(package: str) -> str | None:
    """The public version of a library; that of a build (``+cpu``) does not matter."""
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package)).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
