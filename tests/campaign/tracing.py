"""Kills processes before a chosen operation on files, whichever process, thread or library asks the kernel for it.

The kernel stops a traced process at each system call that changes files (a seccomp filter picks them, ptrace stops
there), so that Rust, Arrow and loader workers count as Python does. Linux on x86_64 only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.campaign.case import Started, start

CALLS = {
    1: "write", 2: "open", 18: "pwrite64", 20: "writev", 40: "sendfile", 74: "fsync", 75: "fdatasync", 76: "truncate",
    77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link", 87: "unlink", 88: "symlink",
    90: "chmod", 91: "fchmod", 257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 265: "linkat",
    266: "symlinkat", 268: "fchmodat", 285: "fallocate", 316: "renameat2", 326: "copy_file_range",
}  # fmt: skip
"""System calls that change files, by their numbers."""
_BY_DESCRIPTOR = {"write", "pwrite64", "writev", "sendfile", "fsync", "fdatasync", "ftruncate", "fchmod", "fallocate"}
_IN_FOLDER = {"openat", "mkdirat", "unlinkat", "renameat", "renameat2", "fchmodat"}
_WRITES = {"write": 2, "pwrite64": 2}
"""Calls that can be cut short, and which argument is their number of bytes."""

_CONT, _GETREGS, _SETREGS, _SYSCALL, _SEIZE = 7, 12, 13, 24, 0x4206
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000
"""Tell calls from signals; follow fork, vfork, clone and exec; stop at the filter's calls; end with the tracer."""
_SECCOMP_STOP, _ANY_CHILD = 7, 0x40000000
_REGISTERS = struct.Struct("27Q")
_ARGUMENTS, _NUMBER = (14, 13, 12, 7, 9, 8), 15
"""Where the registers of a stopped process have the arguments of a call (rdi, rsi, rdx, r10, r8, r9) and its number."""
_PAGE = 4096
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True)
class Operation:
    """A system call that is about to change a file."""

    process: int
    """The thread that asks for it."""
    call: str
    path: str
    """Below the folder that is watched."""
    bytes: int = 0
    """How many a write has."""
    processes: int = 1
    """How many processes of the command there are."""

    def __str__(self) -> str:
        return f"{self.call} {self.path}"


@dataclass(frozen=True)
class Kill:
    """When to kill: before the operation `number` (counted from 0), or after `bytes` of it if it is a write.

    `whom`: all processes at once, the one of the operation, or the others, which then have not asked for anything.
    """

    number: int
    bytes: int | None = None
    whom: Literal["all", "one", "others"] = "all"
    signal: int = signal.SIGKILL


@dataclass
class Traced:
    """How a traced command ended."""

    code: int = 1
    """The exit code, or the negative number of the signal that ended it."""
    err: str = ""
    operations: list[Operation] = field(default_factory=list)
    killed: Operation | None = None
    main: bool = False
    """Whether the process of the command itself was among those that got the signal."""
    timed_out: bool = False
    processes: set[int] = field(default_factory=set)
    """All processes and threads that there were."""


def traced(
    arguments: Sequence[str],
    folder: Path,
    kill: Kill | None = None,
    *,
    seconds: float = 300.0,
    prepare: Callable[[], object] = lambda: None,
) -> Traced:
    """Run ``eir_seq ARGUMENTS`` in `folder` as `case.command` does, and note or end it at operations below `folder`.

    The operations on its standard output are not among them.
    """
    ready, go = os.pipe()

    def begin() -> None:
        prepare()
        os.read(ready, 1)
        _stop_at_calls()

    started = start(arguments, folder, prepare=begin)
    if _libc.ptrace(_SEIZE, started.process, None, _OPTIONS) != 0:
        os.kill(started.process, signal.SIGKILL)
        raise OSError(ctypes.get_errno(), "processes cannot be traced here")
    os.write(go, b"x")
    os.close(go)
    os.close(ready)
    tracer = _Tracer(started, str(folder), kill)
    with _limit(seconds):
        try:
            tracer.run()
        except TimeoutError:
            tracer.kill_all()
            tracer.run()
            tracer.traced.timed_out = True
            tracer.traced.err = f"still running after {seconds:.0f} seconds"
    return tracer.traced


class _Tracer:
    """Follows all processes and threads of a command to their ends."""

    def __init__(self, started: Started, folder: str, kill: Kill | None) -> None:
        self.started, self.folder, self.kill = started, folder, kill
        self.living = {started.process}
        self.traced = Traced()
        self.cut: int | None = None
        self.over = False

    def run(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, _ANY_CHILD)
            except ChildProcessError:  # nobody is left
                break
            self.traced.processes.add(process)
            if not os.WIFSTOPPED(status):
                self.living.discard(process)
                if process == self.started.process:
                    self.traced.code = os.waitstatus_to_exitcode(status)
                continue
            self.living.add(process)
            signal_, event = os.WSTOPSIG(status), status >> 16
            if self.over:
                self.kill_all()
            elif process == self.cut:  # the write that was cut short has been done
                self.cut = None
                self._end(process)
            elif event == _SECCOMP_STOP:
                self._see(process)
            else:
                deliver = 0 if event or signal_ == signal.SIGTRAP | 0x80 else signal_
                _ptrace(_CONT, process, deliver)
        out, err = self.started.files
        self.traced.err = self.traced.err or err.read_text(errors="replace")
        out.unlink()
        err.unlink()

    def kill_all(self) -> None:
        self.over = True
        for process in self.living:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _see(self, process: int) -> None:
        registers = _registers(process)
        operation = None if registers is None else _operation(process, registers, self.folder)
        if operation is not None:
            operation = replace(operation, processes=len(self._groups()))
            self.traced.operations.append(operation)
            kill, number = self.kill, len(self.traced.operations) - 1
            if kill is not None and kill.number == number:
                self.traced.killed = operation
                if kill.bytes is not None and operation.bytes > kill.bytes:
                    assert registers is not None
                    registers[_ARGUMENTS[_WRITES[operation.call]]] = kill.bytes
                    _set_registers(process, registers)
                    self.cut = process
                    _ptrace(_SYSCALL, process)
                    return
                self._end(process)
                return
        _ptrace(_CONT, process)

    def _end(self, process: int) -> None:
        """Send the signal; who survives goes on."""
        assert self.kill is not None
        if self.kill.whom == "all":
            self.traced.main = True
            self.kill_all()
            return
        own = _group(process)
        victims = {own} if self.kill.whom == "one" else self._groups() - {own}
        self.traced.main = self.started.process in victims
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, self.kill.signal)
        if own not in victims or self.kill.signal != signal.SIGKILL:
            _ptrace(_CONT, process)

    def _groups(self) -> set[int]:
        """The processes that live; `living` has their threads as well."""
        return {_group(thread) for thread in self.living} - {0}


def _group(thread: int) -> int:
    """The process of a thread; 0 if it has ended."""
    try:
        with open(f"/proc/{thread}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0
    return 0 if fields["State"].split()[0] in "ZX" else int(fields["Tgid"])


def _operation(process: int, registers: list[int], folder: str) -> Operation | None:
    """The operation that a process stands before, if it is one on files below `folder`."""
    call = CALLS[registers[_NUMBER]]
    first, second, third = (registers[place] for place in _ARGUMENTS[:3])
    try:
        if call in _BY_DESCRIPTOR or call == "copy_file_range":
            path = os.readlink(f"/proc/{process}/fd/{third if call == 'copy_file_range' else first}")
        else:
            path = _text(process, second if call in _IN_FOLDER else first)
            base = "cwd"
            if call in ("linkat", "symlinkat"):
                path = _text(process, registers[_ARGUMENTS[3]] if call == "linkat" else third)
            elif call in _IN_FOLDER and ctypes.c_int(first & 0xFFFFFFFF).value >= 0:
                base = f"fd/{ctypes.c_int(first & 0xFFFFFFFF).value}"
            if not path.startswith("/"):
                path = os.path.join(os.readlink(f"/proc/{process}/{base}"), path)
    except OSError:
        return None
    if not path.startswith(folder + "/"):
        return None
    size = registers[_ARGUMENTS[_WRITES[call]]] if call in _WRITES else 0
    return Operation(process, call, path[len(folder) + 1 :], size)


def _text(process: int, address: int) -> str:
    found = b""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found:
            memory.seek(address + len(found))
            found += memory.read(_PAGE - (address + len(found)) % _PAGE)  # the next page may not be there
    return found.partition(b"\0")[0].decode(errors="replace")


def _ptrace(request: int, process: int, data: int = 0) -> None:
    """A request; that the process has gone meanwhile does not matter: its end is waited for."""
    _libc.ptrace(request, process, None, data)


def _registers(process: int) -> list[int] | None:
    buffer = ctypes.create_string_buffer(_REGISTERS.size)
    if _libc.ptrace(_GETREGS, process, None, ctypes.addressof(buffer)) != 0:
        return None
    return list(_REGISTERS.unpack(buffer.raw))


def _set_registers(process: int, registers: Sequence[int]) -> None:
    buffer = ctypes.create_string_buffer(_REGISTERS.pack(*registers))
    _libc.ptrace(_SETREGS, process, None, ctypes.addressof(buffer))


def _stop_at_calls() -> None:
    """Have the kernel stop this process, and those that it starts, before each of `CALLS` (opens: those that write)."""
    load, equal, test, ret = 0x20, 0x15, 0x45, 0x06
    allow, trace = 0x7FFF0000, 0x7FF00000
    opens = {257: 2, 2: 1}
    program = [(load, 0, 0, 0)]
    for number, argument in opens.items():
        program += [
            (equal, 0, 4, number),
            (load, 0, 0, 16 + 8 * argument),
            (test, 0, 1, _WRITING),
            (ret, 0, 0, trace),
            (ret, 0, 0, allow),
        ]
    for number in CALLS.keys() - opens.keys():
        program += [(equal, 0, 1, number), (ret, 0, 0, trace)]
    program.append((ret, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    _libc.prctl(38, 1, 0, 0, 0)  # no new privileges, which a filter without privileges needs
    if _libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(filter_)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no seccomp filter can be set")


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def over(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
