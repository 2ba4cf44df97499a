"""Mounts of a case's own: small, full and read-only file systems that vanish with the process that made them."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_C = ctypes.CDLL(None, use_errno=True)


def apart(check: Callable[[], str | None]) -> str | None:
    """What `check` returns in a forked process whose mounts nobody else sees.

    The process is single-threaded, as a new user namespace (which those who are not root need) demands.
    """
    readable, writable = os.pipe()
    process = os.fork()
    if not process:
        os.close(readable)
        try:
            _unshare()
            answer = check() or ""
        except BaseException:
            answer = "the case itself failed: " + traceback.format_exc(limit=-3)
        with os.fdopen(writable, "w") as pipe:
            pipe.write(answer)
        sys.stdout.flush()
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        answer = pipe.read()
    os.waitpid(process, 0)
    return answer or None


@functools.cache
def possible() -> bool:
    """Whether this machine lets us mount: root may, others where user namespaces are allowed."""
    with tempfile.TemporaryDirectory() as folder:
        return apart(lambda: small_disk(Path(folder), "1m")) is None


def small_disk(folder: Path, size: str, *, inodes: int = 100_000) -> None:
    """Mount a file system of `size` (as ``mount -o size=``) on a folder, which is made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, f"size={size},nr_inodes={inodes},mode=777")


def resize(folder: Path, size: str, *, inodes: int = 100_000) -> None:
    """Give a file system of `small_disk` another size; its files stay."""
    _mount("tmpfs", folder, "tmpfs", _REMOUNT, f"size={size},nr_inodes={inodes}")


def read_only(folder: Path) -> None:
    """Make a folder one that not even root can write to; its files stay readable."""
    _mount(str(folder), folder, "", _BIND)
    _mount(str(folder), folder, "", _BIND | _REMOUNT | _READ_ONLY)


def hide(folder: Path) -> None:
    """Put an empty read-only file system over a folder."""
    _mount("tmpfs", folder, "tmpfs", _READ_ONLY, "size=4k")


def _unshare() -> None:
    users, groups = os.getuid(), os.getgid()
    if _C.unshare(_NEW_MOUNTS | (_NEW_USERS if users else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if users:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {users} 1")
        Path("/proc/self/gid_map").write_text(f"0 {groups} 1")
    _mount("none", Path("/"), "", _RECURSIVE | _PRIVATE)


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    words = [word.encode() for word in (source, str(target), kind)]
    if _C.mount(*words, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {errno.errorcode.get(number, number)}")
