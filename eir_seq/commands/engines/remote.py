"""A command as a node of a cluster runs it: in the same folder, writing to the same log, with variables from here."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from eir_seq.commands.engines import Launch
from eir_seq.commands.engines.processes import attached

GRACE_SECONDS = 60.0
"""How long a command that is to end may take to save its state."""
_POLL_SECONDS = 0.1
HIDDEN = "$eir_seq:"
"""What a word of a command begins with that stands for a variable."""
_FORWARDED = ("EIR_SEQ_", "PYTHONPATH")
"""Beginnings of the names of variables that every node gets from here."""


class Remote:
    """A command on its way to a node, and there.

    It is pickled by reference: the node has this package, and sees the working directory and the log.

    Args:
        launch: what to run; its first word is this interpreter, in whose place the node takes its own.
        variables: that it gets from here, beyond those of the node.
    """

    def __init__(self, launch: Launch, variables: Mapping[str, str]) -> None:
        self._command = tuple(launch.command[1:])
        self._log = launch.log.absolute()
        self._folder = os.getcwd()
        self._environment = {**variables, **launch.environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None, "_ending": False}

    def add(self, variables: Mapping[str, str]) -> None:
        """Give it further variables."""
        self._environment = {**self._environment, **variables}

    @property
    def pid(self) -> int | None:
        """Its process, once it has started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, after one that writes to the same log has ended."""
        with self._log.open("ab") as log:
            wait_for(log)
            if self._ending:
                return
            self._process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
                attached([sys.executable, *map(_revealed, self._command)]),
                cwd=self._folder,
                env=_of_one_process({**os.environ, **self._environment}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._process is None:
            return -signal.SIGTERM
        return self._process.poll()

    def run(self) -> int:
        """Run it to its end; returns its exit code."""
        self.start()
        while (code := self.poll()) is None:  # a signal may come, whose handler asks, too
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Pass a signal on; what has not begun does not begin."""
        self._ending = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Have it save its state, and wait until it has."""
        self.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def forwarded(variables: Sequence[str] = ()) -> dict[str, str]:
    """The variables of this process that a node gets: EIR_SEQ_*, PYTHONPATH, and those that are named."""
    return {name: value for name, value in os.environ.items() if name.startswith(_FORWARDED) or name in variables}


def _revealed(word: str) -> str:
    return os.environ[word.removeprefix(HIDDEN)] if word.startswith(HIDDEN) else word


def wait_for(log: IO[bytes]) -> None:
    """Lock a log, which a command holds that was started with it until it ends: two never write to one run folder.

    Where the file system has no locks, nothing is waited for.
    """
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)
            continue
        except OSError:
            return
        return


def _of_one_process(environment: dict[str, str]) -> dict[str, str]:
    """Without the variable by which Lightning takes the tasks of a SLURM step for the ranks of one training."""
    environment.pop("SLURM_NTASKS", None)
    return environment


def is_visible(path: Path) -> bool:
    """Whether this machine sees a file; for nodes."""
    return path.is_file()
