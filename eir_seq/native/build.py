"""Compiling the kernels with torch's own tools."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eir_seq.cache.owners import Lock, is_leftover, temporary_name
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.machine import writing
from eir_seq.native.library import FLAGS, LIBRARY, OPENMP, SOURCES, Build, Key, builds, folder_of_builds, namespace

LOG = "build.log"
"""What the compiler said when it failed."""
_PROGRAM = """
import json, sys
from torch.utils.cpp_extension import load
load(**json.loads(sys.argv[1]), is_python_module=False)
"""


def build() -> tuple[Build, bool]:
    """Compile the kernels for this torch, processor and compiler, unless it is done; returns whether it had to be done.

    Processes that build at the same time wait for each other; a build appears whole.

    Raises:
        UserError: there is no compiler.
        RunFailed: the compiler fails, or the disk is full.
    """
    found = _compiler()
    if isinstance(found, Fault):
        raise UserError(found)
    key = Key.here()
    name = hashlib.sha256("\n".join((key.source, key.torch, key.processor, found)).encode()).hexdigest()[:16]
    folder = folder_of_builds()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.iterdir():
            if is_leftover(path):
                _delete(path)
        with Lock(folder / f".{name}.lock"):
            whole = next((build for build in builds() if build.name == name and build.problem() is None), None)
            return (whole, False) if whole is not None else (_made(folder / name, key, found), True)


def _made(folder: Path, key: Key, compiler: str) -> Build:
    made = folder.with_name(temporary_name(folder.name))
    made.mkdir(mode=0o700)
    try:
        _compile(made, folder.name, compiler)
        for path in made.iterdir():
            if path.name != LIBRARY:
                _delete(path)
        (made / LIBRARY).chmod(0o500)
        sha256 = hashlib.sha256((made / LIBRARY).read_bytes()).hexdigest()
        Build(made, key, compiler, sha256, time.time()).write_manifest()
        if folder.exists():  # damaged
            _delete(folder)
        os.rename(made, folder)
    finally:
        _delete(made)
    built = Build.read(folder)
    assert built is not None
    if problem := built.problem():
        raise UserError(
            Fault(str(folder), f"{problem}, so that it would not be loaded; set XDG_CACHE_HOME to a folder of yours")
        )
    return built


def _compile(folder: Path, name: str, compiler: str) -> None:
    """In a process of its own: torch loads what it has compiled, and a process that has a library of that name loaded,
    from wherever, would be aborted."""
    arguments = {
        "name": namespace(name),
        "sources": [str(path) for path in sorted(SOURCES.glob("*.cpp"))],
        "extra_cflags": _flags(compiler),
        "build_directory": str(folder),
    }
    with _tools_in_path():
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-c", _PROGRAM, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    if done.returncode != 0:
        log = folder.parent / LOG
        log.write_text(f"{done.stdout}\nexit code {done.returncode}\n", encoding="utf-8")
        raise RunFailed(f"the kernels cannot be compiled; {log} has what the compiler said")
    os.rename(folder / f"{namespace(name)}.so", folder / LIBRARY)


def _flags(compiler: str) -> tuple[str, ...]:
    return FLAGS if "clang" in compiler.lower() else (*FLAGS, OPENMP)


@contextmanager
def _tools_in_path() -> Iterator[None]:
    """Find the ninja of this environment, which need not be an activated one."""
    folders = [str(Path(sys.executable).parent)]
    try:
        import ninja

        folders.append(ninja.BIN_DIR)
    except ImportError:
        pass
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([*folders, before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _compiler() -> str | Fault:
    """Its name and version."""
    command = os.environ.get("CXX", "c++")
    try:
        done = subprocess.run([*command.split(), "--version"], capture_output=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return Fault("compiler", f"{command!r} cannot be started; install g++ or clang++, or set CXX", "this machine")
    return done.stdout.decode(errors="replace").splitlines()[0]


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
