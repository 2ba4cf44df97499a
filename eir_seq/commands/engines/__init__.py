"""What runs commands, each in a process of its own: this machine, a Ray cluster, or SLURM.

A `Sweep` and the workers of a search start commands and ask how they do; where these run is up to the `Engine`.
"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Launch:
    """A command to run.

    Attributes:
        log: file that takes what it prints.
        environment: variables beyond those that the engine gives.
    """

    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Task(ABC):
    """A command that an engine was given."""

    @property
    def pid(self) -> int | None:
        """Its process, if it is one of this machine."""
        return None

    @property
    def place(self) -> str:
        """Where it runs and what it has there, in words; empty if there is nothing to say."""
        return ""

    @property
    def begun(self) -> bool:
        """Whether it runs, rather than waits for room."""
        return True

    @property
    def reason(self) -> str:
        """Why it ended, where that says more than its exit code."""
        return ""

    @abstractmethod
    def poll(self) -> int | None:
        """Its exit code, below zero for the signal that ended it; None while it waits or runs."""

    @abstractmethod
    def send_signal(self, number: int) -> None:
        """Pass a signal on; what waits ends at once."""

    def terminate(self) -> None:
        """Have it save its state and end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        while (code := self.poll()) is None:
            time.sleep(_POLL_SECONDS)
        return code


class Engine(ABC):
    """Runs commands.

    Attributes:
        at_once: how many it takes at a time; None: it keeps a queue of its own.
    """

    at_once: int | None = 1

    @abstractmethod
    def start(self, launches: Sequence[Launch]) -> list[Task]:
        """Run commands, or have them wait for room.

        Raises:
            RunFailed: the cluster does not take them.
        """

    def running(self, log: Path) -> Task | None:  # noqa: ARG002
        """What an earlier process started with this log, if it still runs and can be followed."""
        return None

    def close(self) -> None:  # noqa: B027
        """Let go of the cluster."""
