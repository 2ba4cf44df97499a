"""SIGTERM and SIGINT: stop at the next safe point, never in the middle of a save."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self


class Stopped(SystemExit):
    """A signal ended the run; the exit code is the shell's, 128 + signal number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


PAUSE = 0.01
"""Seconds until a signal that came in a finalizer is sent again."""
_FINALIZE = weakref.finalize.__call__.__code__


def _in_finalizer(frame: FrameType | None) -> bool:
    """Whether Python prints an exception raised here as ignored, and goes on."""
    while frame is not None:
        if frame.f_code is _FINALIZE or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


class SignalGuard:
    """While entered, SIGTERM and SIGINT raise `Stopped`: at once, or within `deferred` where `check` is called.

    Only the first signal counts, so that neither cleaning up nor a save is disturbed by a second one.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.received: int | None = None
        self._say = say
        self._deferred = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers, over those that others have set since; possible in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal is only remembered, and `check` acts on it."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        if not self._deferred and _in_finalizer(frame):
            again = threading.Timer(PAUSE, os.kill, (os.getpid(), signum))
            again.daemon = True
            again.start()
            return
        self.received = signum
        if not self._deferred:
            raise Stopped(signum)
        self._say(f"{signal.Signals(signum).name}: saving after this step, then stopping")
