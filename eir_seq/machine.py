"""Faults of the machine rather than of the config or the data: a full disk, too few file handles, no shared memory.

Wherever one shows, it is a `RunFailed` of one line that names what could not be written and what is free.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import TextIO

from eir_seq.errors import Fault, RunFailed, UserError

_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_HANDLES = {errno.EMFILE, errno.ENFILE}
_NUMBER = re.compile(r"(?:\[Errno |os error |[Ee]rrno:? ?)(\d+)")
"""How libraries that are not written in Python name the error of the system, and how a loader process passes it on."""
_SHARED = ("</torch_", "shared memory object", "out of shared memory", "bus error")
"""What PyTorch says where batches cannot go from one process to another."""
_MOST_FILES = 65_536
_SPARE_HANDLES, _HANDLES_ON_THE_WAY = 16, 16
_SHARED_MEMORY, _LEAST_SHARED = Path("/dev/shm"), 1 << 20  # noqa: S108
_ANCILLARY = "ancdata"
"""What Python says where a file handle cannot be received, as there are too many."""


def failure_of(error: BaseException) -> RunFailed | None:
    """The one-line failure that an error stands for, if the machine is at fault; else None."""
    found: BaseException | None = error
    while found is not None:
        if not isinstance(found, UserError | RunFailed | AssertionError) and (message := _message(found)) is not None:
            return RunFailed(message)
        found = found.__cause__
    return None


def cannot_write(path: str | os.PathLike[str], error: OSError, place: str | None = None) -> UserError | RunFailed:
    """The error that is raised where a file or folder that the user named cannot be written.

    It is the user's where another path helps (no permission, read-only, not a folder), and a failure of the run where
    the disk is full. `place`: the config path that named it, if any.
    """
    number = error.errno
    if number is not None and number != errno.EROFS and (failure := failure_of(_named(error, path))) is not None:
        return failure
    where = error.filename or path
    reason = error.strerror or str(error)
    if place is None:
        return UserError(Fault(str(where), f"cannot be written: {reason}"))
    return UserError(Fault(place, f"{where} cannot be written: {reason}"))


@contextmanager
def writing(path: str | os.PathLike[str], partial: Path | None = None) -> Iterator[None]:
    """Name a file in the `OSError` that writing it raises: the system names it only where it is opened.

    `partial`: what it is written to before it takes its name; removed where that fails, to free the space.
    """
    try:
        yield
    except BaseException as error:
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = os.fspath(path), None
        raise


def free_bytes(path: Path) -> int:
    """Free space where `path` is or would be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it without further rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def importing() -> Iterator[None]:
    """While PyTorch is imported, have Ctrl-C end the process at once, with exit code 130, and collect no garbage.

    Its C++ code calls Python while it is loaded, and would abort at a `KeyboardInterrupt`. Nothing is written before.
    What is imported stays: to look through it again and again takes a tenth of the time, and so it does in later
    collections, which leave it out.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with _interruptible():
            yield
    finally:
        if collects:
            gc.enable()
        gc.freeze()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C end the process at once."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # somebody else decides what a signal does
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Within, the Hub's client does not log each retry: the caller reports the failure in one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def process_rank(variables: Mapping[str, str] = os.environ) -> int:
    """The rank of this process if torchrun or srun has started several; else 0.

    >>> process_rank({"WORLD_SIZE": "2", "RANK": "1"}), process_rank({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
    (1, 0)
    """
    for size, rank in (("WORLD_SIZE", "RANK"), ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")):
        if variables.get(size, "1") != "1" and variables.get(rank, "").isdecimal():
            return int(variables[rank])
    return 0


def loader_processes(wanted: int, loaders: int) -> tuple[int, str]:
    """How many of the wanted processes per loader can be started here, and why not all of them.

    Each takes three handles, and so does every tensor that is on its way from it.
    """
    if wanted and (problem := _shared_memory_problem()) is not None:
        return 0, problem
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return wanted, ""
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not on Linux
        used = 32
    room = (limit - used - _SPARE_HANDLES - 2 * loaders) // (3 * loaders + _HANDLES_ON_THE_WAY)
    return max(0, min(wanted, room)), f"a process may have {limit:,} open files (ulimit -n)"


def say(text: str, stream: TextIO) -> bool:
    """Write a line; where that is not possible, silence the stream, so that nothing else depends on it.

    A reader that has gone (``| head``) is left alone; of other reasons, such as a full disk, standard error tells.
    """
    try:
        print(text, file=stream, flush=True)
    except (BrokenPipeError, ValueError):
        return False
    except OSError as error:
        silence(stream)
        with suppress(OSError, ValueError):
            print(f"warning: standard output cannot be written: {error.strerror}", file=sys.stderr, flush=True)
        return False
    return True


def silence(stream: TextIO) -> None:
    """What is still to be written to a stream goes nowhere."""
    with suppress(OSError, ValueError):  # a stream without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _message(error: BaseException) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number is None and (found := _NUMBER.search(text)) is not None:
        number = int(found[1])
    if number is None and isinstance(error, RuntimeError):  # PyTorch's words
        number = next((known for known in (*_HANDLES, *_WRITING) if os.strerror(known) in text), None)
    if number in _HANDLES or _ANCILLARY in text:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"too many open files: a process may have {limit:,} (ulimit -n); raise that, or lower data.num_workers"
    if isinstance(error, RuntimeError) and any(sign in text.lower() for sign in _SHARED):
        return "shared memory (/dev/shm) is full or cannot be used; lower data.num_workers (0 needs none)"
    if number == errno.EAGAIN or "can't start new thread" in text:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return (
            f"no further process or thread could be started (a user may have {limit:,}: ulimit -u); lower "
            "data.num_workers and trainer.threads"
        )
    if number not in _WRITING:
        return None
    path = error.filename if isinstance(error, OSError) else None
    path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None
    if path is None and _output_is_full():
        path = "standard output"
    free = "" if path is None or not os.path.isabs(path) else f" ({free_bytes(Path(path)):,} bytes are free)"
    return f"{path or 'a file'} could not be written: {os.strerror(number)}{free}"


def _shared_memory_problem() -> str | None:
    """Why batches cannot go from one process to another, if so."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError as error:
        return f"{_SHARED_MEMORY}: {error.strerror}"
    if status.f_flag & os.ST_RDONLY or not os.access(_SHARED_MEMORY, os.W_OK):
        return f"{_SHARED_MEMORY} cannot be written"
    free = status.f_bavail * status.f_frsize
    return None if free >= _LEAST_SHARED else f"{free:,} bytes are free in {_SHARED_MEMORY}"


def _output_is_full() -> bool:
    """Whether what was printed is still there, as it cannot be written."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")  # what is too long for the buffer is not kept in it
    except (UnsupportedOperation, ValueError):
        return False
    except OSError:
        return True
    return False


def _named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    if error.filename is None:
        error.filename = os.fspath(path)
    return error
