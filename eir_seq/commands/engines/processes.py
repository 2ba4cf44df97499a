"""Processes of this machine, each with GPUs and CPUs of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction

from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.errors import Fault, UserError


class Processes(Engine):
    """The engine of a single machine.

    Args:
        at_once: how many processes.
        gpus: of each; None: all processes see all.
        cpus: threads of each; None: those of the machine are divided.

    Raises:
        UserError: there are not so many GPUs; `place` names the config keys.
    """

    def __init__(
        self, at_once: int = 1, gpus: float | None = None, cpus: int | None = None, *, place: str = "hydra.launcher."
    ) -> None:
        self.at_once = at_once
        self._cpus = cpus
        self._slots = None if gpus is None else Slots(visible_gpus() if gpus else [], gpus)
        if self._slots is not None and not self._slots.suffice(at_once):
            key = f"{place}gpus_per_{'job' if place.startswith('hydra') else 'trial'}"
            message = f"{at_once} at once with {gpus:g} GPUs each, and this machine has {self._slots.count}"
            raise UserError(Fault(key, message))

    def start(self, launches: Sequence[Launch]) -> list[Task]:
        """Start each; no more than `at_once` may run."""
        return [self._start(launch) for launch in launches]

    def _start(self, launch: Launch) -> Task:
        environment = {**os.environ, **launch.environment}
        place: list[str] = []
        gpus: list[str] = []
        if self._slots is not None:
            gpus = self._slots.take()
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            place += [f"GPU {', '.join(gpus)}"] if gpus else []
        if self._cpus is not None:
            environment["OMP_NUM_THREADS"] = str(self._cpus)
            place.append(f"{self._cpus} CPU{'s' if self._cpus > 1 else ''}")
        elif self.at_once is not None and self.at_once > 1:  # otherwise every job would start a thread per core
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.at_once)))
        with launch.log.open("ab") as log:
            # A session of its own: Ctrl-C at the terminal reaches a job once, through us.
            process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return _Process(process, ", ".join(place), self._slots, gpus)


class _Process(Task):
    def __init__(self, process: subprocess.Popen[bytes], place: str, slots: Slots | None, gpus: list[str]) -> None:
        self._process, self._place, self._slots, self._gpus = process, place, slots, gpus

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def place(self) -> str:
        return self._place

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._slots is not None:
            self._slots.give_back(self._gpus)
            self._gpus = []
        return code

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)


class Slots:
    """The GPUs of a machine, given to one process each, or to several.

    Args:
        gpus: as CUDA_VISIBLE_DEVICES names them.
        each: what each process gets: a number of whole ones, or a fraction of one.

    >>> slots = Slots(["0", "1", "2"], 2)
    >>> slots.suffice(1), slots.suffice(2)
    (True, False)
    >>> slots.take()
    ['0', '1']
    """

    def __init__(self, gpus: Sequence[str], each: float) -> None:
        self.count = len(gpus)
        self._share = Fraction(each).limit_denominator(1000)
        self._free = {gpu: Fraction(1) for gpu in gpus}

    def suffice(self, processes: int) -> bool:
        """Whether so many processes can run at once."""
        if self._share == 0:
            return True
        if self._share < 1:
            return processes <= self.count * int(1 / self._share)
        return processes * self._share <= self.count

    def take(self) -> list[str]:
        """The GPUs of one process more; the caller keeps to the number that suffices."""
        needed = min(Fraction(1), self._share)
        found = [gpu for gpu, free in self._free.items() if free >= needed][: max(1, int(self._share))]
        found = found if self._share else []
        for gpu in found:
            self._free[gpu] -= needed
        return found

    def give_back(self, gpus: Sequence[str]) -> None:
        """The process has ended."""
        for gpu in gpus:
            self._free[gpu] += min(Fraction(1), self._share)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    with suppress(OSError, subprocess.SubprocessError):
        words = [command, "--query-gpu=index", "--format=csv,noheader"]
        found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
        return found.stdout.split()
    return []


_ATTACHED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def attached(command: Sequence[str]) -> list[str]:
    """The command line of a process that gets SIGTERM when the thread that starts it ends, however that happens.

    A training on a node whose daemon was killed saves its state then, instead of writing beside its successor.
    """
    return [sys.executable, "-I", "-S", "-c", _ATTACHED, str(os.getpid()), *command]
