"""Cases of the campaign, and a fast way to run commands of the program in child processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

IMPORTED = (
    "datasets", "matplotlib.figure", "eir_seq.commands.check", "eir_seq.commands.predict", "eir_seq.commands.runs",
    "eir_seq.commands.train", "eir_seq.data.module", "eir_seq.data.source", "eir_seq.inference.predict",
    "eir_seq.inference.report", "eir_seq.models.families.bert.architecture", "eir_seq.models.families.bert.heads",
    "eir_seq.models.families.bert.keymap", "eir_seq.models.families.bert.options", "eir_seq.models.families.bert.plan",
    "eir_seq.models.heads.pretraining", "eir_seq.outputs.classification.output",
    "eir_seq.outputs.classification.report", "eir_seq.outputs.regression.output", "eir_seq.outputs.regression.report",
    "eir_seq.training.run",
)  # fmt: skip
"""Modules that commands import."""
EXIT_CODES = (0, 2, 3, 130, 143)
"""The documented ones; 1 would be a fault of the program."""


@dataclass(frozen=True)
class Case:
    """One fault: `run` injects it in an empty folder and returns what the program did wrong, or nothing."""

    name: str
    run: Callable[[Path], str | None]


class Part(Protocol):
    """A module of `tests.campaign.parts`: one line of the table in docs/reliability.md."""

    TITLE: str
    """What is tried, as the table says it."""
    WANTED: str
    """What is right, as the table says it."""

    def cases(self, seed: int, share: float) -> Sequence[Case]:
        """The cases of this seed: all of them for a share of 1, else a sample of that size that the seed chooses."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """The exit code, or the negative number of the signal that ended the process."""
    out: str
    err: str
    seconds: float
    memory: int
    """Peak resident memory that the command added to what the parent had, in bytes."""
    timed_out: bool

    def fault(self, codes: Sequence[int]) -> str | None:
        """What is wrong with an ending that should have one of these codes and no traceback."""
        if self.timed_out:
            return f"still running after {self.seconds:.0f} seconds"
        if "Traceback" in self.err:
            return "traceback: " + self.err.strip().splitlines()[-1][:200]
        if self.code not in codes:
            return f"exit code {self.code}: {self.err.strip()[-200:]}"
        return None


def command(
    arguments: Sequence[str],
    folder: Path,
    *,
    prepare: Callable[[], object] | None = None,
    seconds: float = 60.0,
    drawings: bool = False,
) -> Outcome:
    """Run ``eir_seq ARGUMENTS`` in `folder`, in a forked child; its reports have no drawings unless asked for.

    The parent imports the program once, so that a command takes a tenth of the time of a new interpreter. `prepare`
    runs in the child before the command: it sets limits, or installs what kills the process. The parent must not have
    computed anything with torch: a child of a process with OpenMP threads could hang.
    """
    return start(arguments, folder, prepare, drawings=drawings).wait(seconds)


@dataclass
class Started:
    """A command that runs; `process` is its id and that of its process group."""

    process: int
    files: tuple[Path, Path]
    since: float
    before: int

    def wait(self, seconds: float) -> Outcome:
        """Wait for the end; after so many seconds kill the command and its children."""
        timed_out = False
        while True:
            found, status, usage = os.wait4(self.process, os.WNOHANG)
            if found:
                break
            if time.monotonic() - self.since > seconds and not timed_out:
                timed_out = True
                os.killpg(self.process, signal.SIGKILL)
            time.sleep(0.005)
        out, err = (path.read_text(errors="replace") for path in self.files)
        for path in self.files:
            path.unlink()
        return Outcome(
            code=os.waitstatus_to_exitcode(status),
            out=out,
            err=err,
            seconds=time.monotonic() - self.since,
            memory=max(0, usage.ru_maxrss * 1024 - self.before),
            timed_out=timed_out,
        )


def start(
    arguments: Sequence[str],
    folder: Path,
    prepare: Callable[[], object] | None = None,
    *,
    drawings: bool = False,
) -> Started:
    """Like `command`, without waiting for the end."""
    import_all()
    number = time.monotonic_ns()
    files = (folder.parent / f".out{number}", folder.parent / f".err{number}")
    sys.stdout.flush()
    sys.stderr.flush()
    before = _resident()
    since = time.monotonic()
    process = os.fork()
    if process:
        _lead_group(process)
        return Started(process, files, since, before)
    code = 1
    try:
        _lead_group(0)
        _redirect(files)
        os.chdir(folder)
        os.environ.pop("EIR_SEQ_CONF", None)
        if not drawings:
            draw_nothing()
        if prepare is not None:
            prepare()
        from eir_seq.commands import main

        code = main(list(arguments))
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _lead_group(process: int) -> None:
    """Make the process the leader of a group (parent and child both do, whoever comes first)."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(process, process)


def _redirect(files: tuple[Path, Path]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def _resident() -> int:
    """What a forked child has from the start: the pages of files are not among it."""
    _, resident, files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - files) * resource.getpagesize()


def undrawn(title: str, text: str, draw: object, *, width: float = 0, height: float = 0, note: str = "") -> object:
    """A plot without a drawing, in the place of `eir_seq.outputs.reporting.plots.figure_of`."""
    return Plot(title, "<svg/>", note)  # type: ignore[name-defined]  # noqa: F821


def draw_nothing() -> None:
    """In a child: leave out the drawings of reports, which take most of the time of a small run."""
    from eir_seq.outputs.reporting import plots

    # Modules that imported the function have it as well.
    plots.figure_of.__code__ = undrawn.__code__


def import_all() -> None:
    """Import what a training run imports, once."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as commands do, before they import torch
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch

    for name in IMPORTED:
        importlib.import_module(name)
    torch.set_num_threads(1)
