"""Marks that processes leave in shared folders: empty files whose names say which process left them.

Locks of `fcntl` are not reliable on network file systems. Here only what every file system does at once is used:
creating, renaming and removing. A mark outlives the process that left it, so that whoever finds one checks whether that
process is alive: by its id and start time on the same machine, by the age of the mark on another one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import math
import os
import re
import secrets
import shutil
import socket
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

RENEWED = 600.0
"""Seconds after which a mark that is in use is renewed."""
FORGOTTEN = 24 * 3600.0
"""Seconds after which a mark of another machine that was not renewed counts no more."""

PATIENCE = 600.0
"""Seconds without a heartbeat after which the holder of a lock is given up."""

_OWNER = r"([0-9a-f]{12}-\d+-\d+)"
"""A process in a file name: machine, process id, start time."""
_MARK = re.compile(rf"\.used-by-{_OWNER}-[0-9a-f]{{8}}")
_TEMPORARY = re.compile(rf"\..+-{_OWNER}-[0-9a-f]{{8}}\.tmp")
_PAUSE = 0.05
_SILENT = 5.0
"""Seconds of waiting without a message."""


class Mark:
    """Says that this process uses a folder, until it is released, collected, or the process ends.

    Raises `OSError` if the folder is not there or cannot be written. Pickling keeps the path only: the other process
    renews the mark and never removes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f".used-by-{this_process()}-{secrets.token_hex(4)}"
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self._renewed = time.monotonic()
        self._remover = weakref.finalize(self, _remove, self.path, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._renewed = time.monotonic()

    def moved(self, folder: Path) -> None:
        """The folder has another name now."""
        self._remover.detach()
        self.path = folder / self.path.name
        self._remover = weakref.finalize(self, _remove, self.path, os.getpid())

    def renew(self, after: float = RENEWED) -> None:
        """A heartbeat, if the last one was `after` seconds ago."""
        if time.monotonic() - self._renewed >= after:
            self._renewed = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Remove the mark."""
        self._remover()


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child has a copy of the mark, which is its parent's
        with contextlib.suppress(OSError):
            path.unlink()


def marks(folder: Path) -> list[Path]:
    """The marks of living processes in a folder; those of dead ones are removed."""
    found = []
    for name in _names(folder):
        if (match := _MARK.fullmatch(name)) is None:
            continue
        path = folder / name
        with contextlib.suppress(OSError):
            if may_live(match[1], path.stat().st_mtime):
                found.append(path)
            else:
                path.unlink()
    return found


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


# --------------------------------------------------------------------------------------------------------- processes


def this_process() -> str:
    """This process as a part of a file name; no other one has the same, before or after."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def may_live(owner: str, seen: float) -> bool:
    """Whether a process that `this_process` named may be alive.

    Args:
        owner: the name.
        seen: time of its last heartbeat, which counts if it is of another machine (or container).
    """
    machine, process, start = owner.split("-")
    if machine != _machine():
        return time.time() - seen < FORGOTTEN
    found = _started(int(process))
    return found is not None and (found == int(start) or 0 in (found, int(start)))


@functools.cache
def _machine() -> str:
    """Processes with the same one see each other: the same host since its last start, the same container."""
    state = [socket.gethostname()]
    with contextlib.suppress(OSError):
        state.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        state.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(state).encode()).hexdigest()[:12]


def _started(process: int) -> int | None:
    """When a process started, in ticks of the machine's clock (0 where that cannot be seen); None if it is dead."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def temporary_name(name: str) -> str:
    """A name for what becomes `name` once it is whole, or was it until now."""
    return f".{name.strip('.')[:24]}-{this_process()}-{secrets.token_hex(4)}.tmp"


def is_leftover(path: Path) -> bool:
    """Whether a dead process left this: a temporary file or folder, or a lock that nothing holds."""
    with contextlib.suppress(OSError):
        if match := _TEMPORARY.fullmatch(path.name):
            return not may_live(match[1], path.stat().st_mtime)
        if path.suffix == Lock.SUFFIX and path.is_dir():
            return not marks(path)
    return False


# ------------------------------------------------------------------------------------------------------------- locks


class Lock:
    """The right to build something, which one process at a time has: a folder with that process's mark.

    It saves work and protects nothing: whoever has waited too long continues, so that two may do the same work. Use
    ``with lock:``, which waits; raises `OSError` if the folder cannot be made.
    """

    SUFFIX = ".lock"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: Mark | None = None

    def __enter__(self) -> Self:
        made = self.path.with_name(temporary_name(self.path.name))
        made.mkdir()
        try:
            mark = Mark(made)
            self._wait(made)
            mark.moved(self.path)
            self._mark = mark
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._mark is not None
        self._mark.release()
        with contextlib.suppress(OSError):
            self.path.rmdir()  # unless another process has taken it

    def renew(self) -> None:
        """A heartbeat, so that others keep waiting."""
        assert self._mark is not None
        self._mark.renew(after=PATIENCE / 10)

    def _wait(self, made: Path) -> None:
        """Rename `made` to the lock. A folder that holds another process's mark is not replaced, an empty one is."""
        seen: dict[Path, int] = {}
        began = since = time.monotonic()
        while True:
            try:
                os.rename(made, self.path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            now, found = time.monotonic(), {}
            for mark in marks(self.path):
                with contextlib.suppress(OSError):
                    found[mark] = mark.stat().st_mtime_ns
            if found != seen:
                seen, since = found, now
            elif now - since > PATIENCE:
                shutil.rmtree(self.path, ignore_errors=True)
            if found and now - began > _SILENT:
                began = math.inf
                log.warning("waiting for process %s, which builds %s", _process(next(iter(found))), self.path.stem[1:])
            time.sleep(_PAUSE)


def _process(mark: Path) -> str:
    match = _MARK.fullmatch(mark.name)
    assert match is not None
    return match[1].split("-")[1]
