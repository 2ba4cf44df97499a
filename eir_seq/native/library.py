"""Builds of the kernels: which there are, which one a process uses, and how it is loaded.

Kernels round differently than torch's operations. So a process decides once, and a run notes its decision, see
`eir_seq.training.kernels`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import platform
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder, read_json

log = logging.getLogger(__name__)

SWITCH = "EIR_SEQ_NATIVE"
SOURCES = Path(__file__).with_name("csrc")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
"""For the compiler."""
OPENMP = "-fopenmp"
"""For compilers that take the runtime of torch, which is GCC's: without it one thread does the work of all."""
LIBRARY, MANIFEST = "kernels.so", "build.json"
OPERATIONS = (
    "attention_forward",
    "attention_backward",
    "norm_forward",
    "norm_backward",
    "dropped",
    "activated",
    "activated_",
    "activated_backward",
    "linear_backward",
    "embeddings_forward",
    "embeddings_backward",
    "feed_forward_forward",
    "feed_forward_backward",
    "bf16_is_served",
    "bf16_linear_forward",
    "bf16_linear_backward",
    "wkv",
    "selective_scan",
)
CLASSES = ("DecodingProgram",)
BUILD = "python -m eir_seq native build"


@dataclass(frozen=True)
class Key:
    """What a build depends on besides the compiler: hashes of sources and processor, and torch's version."""

    source: str
    torch: str
    processor: str

    @classmethod
    @functools.cache
    def here(cls) -> Key:
        """That of a build which this process can use."""
        return cls(_source(), torch.__version__, _processor())


@dataclass(frozen=True)
class Build:
    """A folder with a library, and what its manifest says. `sha256`: of the library. `made`: seconds since 1970."""

    folder: Path
    key: Key
    compiler: str
    sha256: str
    made: float

    @property
    def name(self) -> str:
        """What runs note."""
        return self.folder.name

    def write_manifest(self) -> None:
        """As `read` reads it."""
        content = {"key": asdict(self.key), "compiler": self.compiler, "sha256": self.sha256, "made": self.made}
        (self.folder / MANIFEST).write_text(json.dumps(content, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Build | None:
        """The build in a folder; None if it holds none."""
        try:
            content = read_json(folder / MANIFEST)
            made = float(content["made"])
            return cls(folder, Key(**content["key"]), str(content["compiler"]), str(content["sha256"]), made)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def problem(self) -> str | None:
        """Why it must not be loaded, if there is a reason."""
        try:
            for path in (self.folder / LIBRARY, *_ancestors(self.folder)):
                if why := _untrusted(path):
                    return why
            if hashlib.sha256((self.folder / LIBRARY).read_bytes()).hexdigest() != self.sha256:
                return f"{self.folder / LIBRARY} is not what was built"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return None


def builds() -> list[Build]:
    """All in the user's cache folder, the newest first."""
    try:
        folders = sorted(folder_of_builds().iterdir())
    except OSError:
        return []
    found = (Build.read(folder) for folder in folders if not folder.name.startswith("."))
    return sorted((build for build in found if build is not None), key=lambda build: -build.made)


def folder_of_builds() -> Path:
    """``native`` in the user's cache folder."""
    return default_folder() / "native"


# ------------------------------------------------------------------------------------------------------- the decision


class _Undecided:
    pass


_choice: Build | _Undecided | None = _Undecided()
_loaded: dict[str, Any] = {}


def chosen() -> Build | None:
    """The build that this process uses, decided at the first call; None: torch's operations.

    It is the newest that fits. The environment's EIR_SEQ_NATIVE=0 rules out all, and 1 demands one.

    Raises:
        UserError: there is none, but the environment demands it; or it says something else.
    """
    global _choice
    if isinstance(_choice, _Undecided):
        _choice = _default()
    return _choice


def use(name: str | None) -> bool:
    """Have this process use the build of that name from now on, torch's operations for None; whether it can."""
    global _choice
    build = next((build for build in builds() if build.name == name and build.key == Key.here()), None)
    if name is not None and (build is None or _problem(build) is not None):
        return False
    _choice = build
    return True


def forget() -> None:
    """Decide anew at the next use."""
    global _choice
    _choice = _Undecided()


@contextlib.contextmanager
def without() -> Iterator[None]:
    """Torch's operations for a while."""
    global _choice
    before, _choice = _choice, None
    try:
        yield
    finally:
        _choice = before


def available() -> bool:
    """Whether this process uses native kernels."""
    return chosen() is not None


def demanded() -> bool | None:
    """What the environment says: True to use native kernels, False not to; None if it says nothing.

    Raises:
        UserError: it says something else.
    """
    forced = os.environ.get(SWITCH)
    if forced not in (None, "0", "1"):
        message = f"{forced!r} is not 0 (use no native kernels) or 1 (use them)"
        raise UserError(Fault(SWITCH, message, "environment"))
    return None if forced is None else forced == "1"


def is_eager() -> bool:
    """Whether operations run one by one: they are neither traced into a graph nor transformed by ``torch.func``."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def operations() -> Any:
    """The operations and classes of the chosen build."""
    build = chosen()
    assert build is not None
    return _loaded[build.name]


def drawn_seed(rate: float) -> int:
    """A seed for dropout of that rate, drawn from torch's generator if there is any dropout."""
    return int(torch.randint(2**63 - 1, ())) if rate else 0


def _default() -> Build | None:
    forced = demanded()
    if forced is False:
        return None
    problem = f"no native kernels are built for this torch and this processor; run: {BUILD}"
    for build in builds():
        if build.key == Key.here():
            if (problem := _problem(build) or "") == "":
                return build
            break
    else:
        if not forced:
            return None
    if forced:
        raise UserError(Fault(SWITCH, problem, "environment"))
    log.warning("native kernels are not used: %s", problem)
    return None


def _problem(build: Build) -> str | None:
    """Why the build cannot be used; None: it is loaded."""
    if build.name in _loaded:
        return None
    if problem := build.problem():
        return f"{problem}; run: {BUILD}"
    try:
        torch.ops.load_library(str(build.folder / LIBRARY))
        found = getattr(torch.ops, namespace(build.name))
        classes = getattr(torch.classes, namespace(build.name))
        operations = SimpleNamespace(
            **{name: getattr(found, name).default for name in OPERATIONS},
            **{name: getattr(classes, name) for name in CLASSES},
        )
    except (OSError, RuntimeError, AttributeError) as error:
        return f"{build.folder / LIBRARY} cannot be loaded ({str(error).splitlines()[0]}); run: {BUILD}"
    _loaded[build.name] = operations
    return None


def namespace(name: str) -> str:
    """Of the operations of a build in ``torch.ops``: a process may load several."""
    return f"eir_seq_native_{name}"


# -------------------------------------------------------------------------------------------------------------- trust


def _ancestors(folder: Path) -> list[Path]:
    real = folder.resolve(strict=True)
    return [real, *real.parents]


def _untrusted(path: Path) -> str | None:
    """Why others than the user (and the administrator) could have written there, if they could."""
    about = path.lstat()
    if about.st_uid not in (os.getuid(), 0):
        return f"{path} belongs to another user"
    shared = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared and not (stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX):
        return f"{path} can be written by others"
    return None


def _source() -> str:
    found = hashlib.sha256(" ".join((*FLAGS, OPENMP)).encode())
    for path in sorted(SOURCES.iterdir()):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _processor() -> str:
    """A hash of what the processor is and can do."""
    words = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    try:
        wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        words += [line for line in first.splitlines() if line.split("\t")[0].split(":")[0].strip() in wanted]
    except OSError:
        words.append(platform.processor())
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
