"""Which kernels a run computes with on a CPU: torch's operations, or a build of `eir_seq.native`.

Both round differently, so an interrupted run continues with those that it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from eir_seq import native
from eir_seq.errors import Fault, UserError
from eir_seq.native import library

TORCH = "torch"
"""What the manifest says of torch's operations; a build has its name there."""


def choose_kernels(device: torch.device, folder: Path, before: str | None, say: Callable[[str], None]) -> str:
    """Choose the kernels of this process for a run, and return what its manifest is to say.

    Args:
        device: that of the run; there are native kernels for a CPU only.
        folder: of the run.
        before: what its manifest says; None for a new run.
        say: tells the user that the run goes on with other kernels.

    Raises:
        UserError: the run began with a build that is not here, or the environment demands one and there is none.
    """
    native.use(None)
    if device.type != "cpu":
        return TORCH
    demanded = library.demanded()
    if before is None or demanded is not None:
        library.forget()
        name = _name()
        if before not in (None, name):
            say(f"{library.SWITCH}={demanded:d}: the run continues with other kernels, so that its last bits change")
        return name
    if before != TORCH and not native.use(before):
        message = (
            f"the run in {folder} uses the native kernels {before}, which are not here for this torch and processor; "
            f"{library.BUILD} makes those of this version, and {library.SWITCH}=0 or 1 continues without or with them, "
            "then not bit for bit"
        )
        raise UserError(Fault("run.dir", message))
    return before


def follow_kernels(name: str) -> None:
    """Use the same kernels as rank 0.

    Raises:
        UserError: they are not here.
    """
    if not native.use(None if name == TORCH else name):
        message = f"the native kernels {name} of process 0 are not on this machine; build them here too, or set it to 0"
        raise UserError(Fault(library.SWITCH, message, "environment"))


def _name() -> str:
    build = native.chosen()
    return TORCH if build is None else build.name


def describe_kernels(device: torch.device) -> str | None:
    """Which native kernels a new run on this device would use, for people."""
    build = native.chosen() if device.type == "cpu" else None
    return None if build is None else f"native attention for this processor ({build.name})"
