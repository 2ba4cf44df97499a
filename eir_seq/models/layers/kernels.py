"""Which library multiplies matrices in float32 on a CPU: MKL, torch's default, or oneDNN, which is in the same wheel.

MKL is at full speed on processors of Intel. How much slower it is on those of AMD differs: by half on Zen 5, by a
tenth and for large products only on Zen 4. So there both are measured once, which takes about a second, and what was
found is kept in the user's cache folder: kernels round differently, and a choice that was made anew in each process
would make two runs of one command differ. A run notes the choice in its manifest and keeps it where it continues.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError

SWITCH = "EIR_SEQ_ONEDNN"
LAYOUTS = ("output", "input gradient", "weight gradient")
"""Products of a linear layer: x W^T, with both factors as they lie in memory; g W; and g^T x."""
NARROW = 64
"""Columns of a product below which it is one of the narrow ones."""
SIZES = (18, 20, 22, 24, 26)
"""Multiplications of the products that are measured, as powers of two."""
GAIN = 1.08
"""How many times as fast oneDNN must be to be taken: noise must not decide."""
ROUNDS, SECONDS = 7, 4e-4
"""Rounds of a measurement, and how long each of its parts is at least."""


def onednn_is_available() -> bool:
    """Whether this build of torch can call oneDNN's product directly."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in) and (out, in) -> x W^T + b by oneDNN, without gradients."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


Least = tuple[int | None, int | None]


@dataclass(frozen=True)
class Kernels:
    """From which size on products take oneDNN.

    `least`: by layout, for wide and for narrow products, the least power of two of multiplications; None: never.
    `machine`: what they were measured on, see `machine_name`.
    """

    least: Mapping[str, Least] = field(default_factory=dict)
    machine: str = ""

    @functools.cached_property
    def smallest(self) -> float:
        """The least of all, infinite if oneDNN is never taken."""
        return min((size for sizes in self.least.values() for size in sizes if size is not None), default=float("inf"))

    @property
    def never_onednn(self) -> bool:
        """Whether no product takes it."""
        return self.smallest == float("inf")

    def takes_onednn(self, layout: str, multiplications: int, columns: int) -> bool:
        """Whether a product of this size does, whose result has so many columns."""
        least = self.least.get(layout, (None, None))[columns < NARROW]
        return least is not None and multiplications.bit_length() > least

    def state(self) -> dict[str, Any]:
        """For JSON."""
        return {"machine": self.machine, "least": {layout: list(sizes) for layout, sizes in self.least.items()}}

    @classmethod
    def of(cls, state: Any) -> Self:
        """The inverse; raises `ValueError` where the state is no such thing."""
        try:
            least = {layout: (wide, narrow) for layout, (wide, narrow) in state["least"].items()}
            sizes = [size for pair in least.values() for size in pair if size is not None]
            if set(least) <= {*LAYOUTS} and all(type(size) is int for size in sizes):
                return cls(least, str(state["machine"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        raise ValueError("not a choice of kernels")


NEVER = Kernels()
RULE = Kernels({"output": (22, 22), "input gradient": (22, 22), "weight gradient": (22, None)})
"""What is taken unmeasured (EIR_SEQ_ONEDNN=1, or there is nowhere to keep a measurement): right for Zen 5."""


def kernels() -> Kernels:
    """The choice of this process, which is made once: by EIR_SEQ_ONEDNN=0 or 1, or as this machine's was measured.

    Raises:
        UserError: EIR_SEQ_ONEDNN is neither 0 nor 1.
    """
    return _used[-1] if _used else _chosen()


_used: list[Kernels] = []


@contextmanager
def used(choice: Kernels) -> Iterator[None]:
    """Take these instead, while the context is open."""
    _used.append(choice)
    try:
        yield
    finally:
        _used.pop()


@functools.lru_cache(maxsize=1)
def _chosen() -> Kernels:
    forced = os.environ.get(SWITCH)
    if forced not in (None, "0", "1"):
        raise UserError(Fault(SWITCH, f"{forced!r} is not 0 (never take oneDNN) or 1 (take it)", "environment"))
    if forced == "0" or not onednn_is_available():
        return NEVER
    if forced == "1":
        return RULE
    return stored() if may_gain() else NEVER


def may_gain() -> bool:
    """Whether oneDNN may be faster here: torch's default is MKL, on a processor that is not Intel's."""
    return (
        torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and "GenuineIntel" not in _processor()
    )


def processor_name() -> str:
    """The processor as the system names it, with its maker's numbers, which names of virtual machines leave out."""
    values = dict(re.findall(r"^(vendor_id|cpu family|model name|model|stepping)\s*:\s*(.+)$", _processor(), re.M))
    named = " ".join(values.get("model name", platform.processor() or platform.machine()).split())
    numbers = [f"{name} {values[name]}" for name in ("cpu family", "model", "stepping") if name in values]
    details = ", ".join([*filter(None, [values.get("vendor_id")]), *numbers]).replace("cpu family", "family")
    return f"{named} ({details})" if details else named


def machine_name() -> str:
    """What a measurement holds for: processor, torch and threads."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor_name()}, {capability}, torch {torch.__version__}, threads: {torch.get_num_threads()}"


def _processor() -> str:
    """What the system says about the processor, its maker included."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return platform.processor()


# ------------------------------------------------------------------------------------------------------- measurement


Measured = Mapping[tuple[str, bool], list[float]]
"""By layout, and whether the product is narrow: seconds of torch's default over those of oneDNN, by `SIZES`."""


def stored(folder: Path | None = None, measured: Measured | None = None) -> Kernels:
    """The choice for this machine in the cache folder, measured where there is none; `RULE` where it cannot be kept.

    Processes that need it at once wait for one of them, and all take what that one has found.

    Args:
        folder: the cache folder; the user's if None.
        measured: a new measurement, which replaces what is there.
    """
    from eir_seq.cache import Cache, Label
    from eir_seq.files import default_folder

    machine = machine_name()

    def build(place: Path, renew: Callable[[], None]) -> Label:  # noqa: ARG001
        choice = Kernels(least_of(measured or measure()), machine)
        (place / "kernels.json").write_text(json.dumps(choice.state()), encoding="utf-8")
        return Label("kernels", machine)

    def read(place: Path, mark: object) -> Kernels:  # noqa: ARG001
        return Kernels.of(json.loads((place / "kernels.json").read_text(encoding="utf-8")))

    name = f"kernels-{hashlib.sha256(machine.encode()).hexdigest()}"
    cache = Cache(folder or default_folder())
    try:
        for entry in cache.entries() if measured is not None else ():
            if entry.path.name == name:
                cache.remove(entry)
        return cache.get(name, build, read) or RULE
    except (OSError, ValueError):
        return RULE


def measure() -> Measured:
    """Both kernels in turn, in seconds of the process."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return {
            (layout, narrow): [_ratio(*factors(layout, size, narrow=narrow)) for size in SIZES]
            for layout in LAYOUTS
            for narrow in (False, True)
        }


def least_of(measured: Measured) -> dict[str, Least]:
    """The least sizes from which on oneDNN is faster at every size."""

    def least(ratios: list[float]) -> int | None:
        found = None
        for size, ratio in zip(reversed(SIZES), reversed(ratios), strict=True):
            if ratio < GAIN:
                break
            found = size
        return found

    return {layout: (least(measured[layout, False]), least(measured[layout, True])) for layout in LAYOUTS}


def factors(layout: str, size: int, *, narrow: bool) -> tuple[Tensor, Tensor]:
    """Factors of a product with 2^size multiplications: (m, k) and (n, k), in memory as in a linear layer.

    The layer has 256 inputs and outputs; a narrow product has 32 columns.
    """
    generator = torch.Generator().manual_seed(size)
    columns, other = NARROW // 2 if narrow else 256, 256
    rest = 2**size // (columns * other)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)

    if layout == "output":
        return drawn(rest, other), drawn(columns, other)
    if layout == "input gradient":
        return drawn(rest, other), drawn(other, columns).t()
    return drawn(rest, other).t(), drawn(rest, columns).t()


def _ratio(x: Tensor, weight: Tensor) -> float:
    kinds: tuple[Callable[[], Tensor], ...] = (lambda: x @ weight.t(), lambda: onednn(x, weight))
    counts = []
    for kind in kinds:
        kind()  # which compiles
        counts.append(max(1, round(SECONDS / max(_seconds(kind, 1), 1e-6))))
    pairs = [[_seconds(kind, count) / count for kind, count in zip(kinds, counts, strict=True)] for _ in range(ROUNDS)]
    return statistics.median(default / max(other, 1e-9) for default, other in pairs)


def _seconds(kind: Callable[[], Tensor], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        kind()
    return time.process_time() - start
