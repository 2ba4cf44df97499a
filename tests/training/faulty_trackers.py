"""A tracker that fails or hangs where a test wants it to, and otherwise keeps what it was told."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from eir_seq.training.samples import Sample
from eir_seq.training.trackers.base import Tracker

Place = Literal["build", "log", "write", "conclude", "finish"]


@dataclass(frozen=True)
class Injected:
    """A fault at each call of one kind."""

    at: Place | None = None
    fault: Literal["raise", "exit", "hang"] = "raise"


class Faulty(Tracker):
    """Fails where it is told to, and keeps all other calls."""

    injected: ClassVar[Injected] = Injected()
    made: ClassVar[list[Faulty]] = []

    def __init__(self, injected: Injected | None = None) -> None:
        self.wanted = injected or Faulty.injected
        self.calls: list[tuple[str, Any]] = []
        self.thread = threading.current_thread()
        Faulty.made.append(self)
        self._do("build", None)

    def _do(self, place: Place, what: Any) -> None:
        self.calls.append((place, what))
        if place == self.wanted.at:
            if self.wanted.fault == "hang":
                threading.Event().wait()
            if self.wanted.fault == "exit":
                raise SystemExit(3)
            raise ValueError(f"no luck at {place}, with api_key=canary\nmore")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._do("log", (dict(values), step))

    def write(self, samples: Sequence[Sample], step: int) -> None:
        self._do("write", (list(samples), step))

    def conclude(self, run_dir: Path, result: Mapping[str, Any]) -> None:
        self._do("conclude", (run_dir, result))

    def finish(self, exit_code: int) -> None:
        self._do("finish", exit_code)


def faulty(*_: object) -> Tracker:
    """What `IMPLEMENTATION` names."""
    return Faulty()
