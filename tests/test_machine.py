"""Faults of the machine are one line, whoever raises them."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eir_seq import machine
from eir_seq.errors import RunFailed, UserError


def system_error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path) if path else OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (system_error(errno.ENOSPC, "/tmp/a"), "/tmp/a could not be written: No space left on device ("),
        (system_error(errno.EIO), "a file could not be written: Input/output error"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "could not be written: No space left"),
        (OSError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"), "ulimit -n"),
        (RuntimeError("unable to open file </a> in read-only mode: Too many open files (24)"), "ulimit -n"),
        (
            RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"),
            "shared memory (/dev/shm)",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "shared memory (/dev/shm)"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_what_the_machine_is_at_fault_for(error: BaseException, said: str) -> None:
    failure = machine.failure_of(error)
    assert failure is not None
    assert said in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no such file", "a"), RuntimeError("shape"), KeyError("a")])
def test_other_errors_are_faults_of_the_program(error: BaseException) -> None:
    assert machine.failure_of(error) is None


def test_the_cause_counts() -> None:
    error = RuntimeError("could not save")
    error.__cause__ = system_error(errno.ENOSPC, "a")
    assert "a could not be written" in str(machine.failure_of(error))


def test_a_target_that_another_path_would_mend_is_the_users(tmp_path: Path) -> None:
    assert isinstance(machine.cannot_write(tmp_path, system_error(errno.EACCES)), UserError)
    assert isinstance(machine.cannot_write(tmp_path, system_error(errno.EROFS)), UserError)
    assert isinstance(machine.cannot_write(tmp_path, system_error(errno.ENOSPC)), RunFailed)


def test_writing_names_the_file_and_frees_its_space(tmp_path: Path) -> None:
    partial = tmp_path / ".partial"
    partial.write_text("half")
    with pytest.raises(OSError, match="whole"), machine.writing(tmp_path / "whole", partial):
        raise system_error(errno.ENOSPC)
    assert not partial.exists()


def test_a_full_stream_is_silenced(capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as stream:
        assert not machine.say("a line", stream)
        assert machine.say("another", stream)  # goes nowhere, and is no error when the stream is closed
    assert capfd.readouterr().err == "warning: standard output cannot be written: No space left on device\n"


def test_few_file_handles_make_few_loader_processes() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 80, limits[1]))
        assert machine.loader_processes(8, 3) == (2, f"a process may have {used + 80:,} open files (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, limits[1]))
        assert machine.loader_processes(8, 3)[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert machine.loader_processes(0, 3)[0] == 0


def test_without_shared_memory_there_are_no_loader_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SHARED_MEMORY", tmp_path / "missing")
    assert machine.loader_processes(2, 3) == (0, f"{tmp_path / 'missing'}: No such file or directory")


if not sys.platform.startswith("linux"):
    pytest.skip("limits of other systems have other names", allow_module_level=True)


INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from eir_seq import commands
try:
    commands._dispatch(sys.argv[1:])
except KeyboardInterrupt:
    os._exit(9)
"""


@pytest.mark.parametrize("words", [["experiment=imdb_longformer"], ["check", "experiment=imdb_longformer"]])
def test_an_interrupt_while_torch_is_imported_raises_nothing(words: list[str], tmp_path: Path) -> None:
    """PyTorch aborts at exceptions that come in its C++ code."""
    root = str(Path(machine.__file__).parents[1])
    command = [sys.executable, "-c", INTERRUPTED, *words]
    ended = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, timeout=120)
    assert ended.returncode == 130


def test_who_ignores_interrupts_goes_on_to() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with machine.importing():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("collects", [True, False])
def test_imports_collect_no_garbage(collects: bool) -> None:
    before, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if collects else gc.disable)()
        with machine.importing():
            assert not gc.isenabled()
        assert gc.isenabled() is collects
        assert gc.get_freeze_count() > 0
    finally:
        if not frozen:  # or the tests to come would search what conftest.py has set aside
            gc.unfreeze()
        (gc.enable if before else gc.disable)()
