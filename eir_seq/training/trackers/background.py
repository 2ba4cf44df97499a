"""Calls of a tracker on a thread of its own, so that none of them stops or slows a run."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable

from eir_seq.training.redaction import redact
from eir_seq.training.trackers.base import Tracker

MOST_CALLS = 10_000
"""Calls in the queue of a tracker; one whose queue is full is disabled."""

logger = logging.getLogger(__name__)


class BackgroundTracker:
    """A tracker that is built, called and ended on a daemon thread, in the order of the calls.

    The first failure, a queue that is full, or an end that takes too long are one warning, and then the tracker is left
    out: what waits is dropped, and further calls do nothing.

    Args:
        name: of the tracker, for warnings.
        build: makes the tracker, on the thread.
        patience: seconds that `finish` waits.
        most_calls: how many calls may wait.
    """

    def __init__(
        self, name: str, build: Callable[[], Tracker], *, patience: float, most_calls: int = MOST_CALLS
    ) -> None:
        self.name, self._patience = name, patience
        self._calls: queue.Queue[Callable[[Tracker], object] | None] = queue.Queue(most_calls)
        self._left_out = self._finished = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._work, args=(build,), name=f"tracker {name}", daemon=True)
        self.thread.start()

    def call(self, act: Callable[[Tracker], object]) -> None:
        """Have the thread call `act` with the tracker; returns at once."""
        if self._left_out or self._finished:
            return
        try:
            self._calls.put_nowait(act)
        except queue.Full:
            self._leave_out(f"has {self._calls.maxsize:,} calls waiting in its queue")

    def finish(self, exit_code: int = 0, *, patience: float | None = None) -> None:
        """End the tracker after all calls, and wait for that as long as there is patience. Safe to call twice."""
        if self._left_out or self._finished:
            return
        patience = self._patience if patience is None else min(patience, self._patience)
        deadline = time.monotonic() + patience
        self.call(lambda tracker: tracker.finish(exit_code))
        self._finished = True
        with contextlib.suppress(queue.Full):  # which is an end that takes too long
            self._calls.put(None, timeout=max(0.0, deadline - time.monotonic()))
        if not self._ended.wait(max(0.0, deadline - time.monotonic())):
            self._leave_out(f"has not ended within {patience:g} s")

    def _work(self, build: Callable[[], Tracker]) -> None:
        try:
            tracker = build()
            while (act := self._calls.get()) is not None and not self._left_out:
                act(tracker)
        except BaseException as error:  # even SystemExit: some clients end the process that uses them
            lines = str(error).strip().splitlines()
            self._leave_out(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
        finally:
            self._ended.set()

    def _leave_out(self, reason: str) -> None:
        with self._lock:
            if self._left_out:
                return
            message = str(redact(reason))[:300]
            logger.warning("tracker %s: %s; it is left out, and the run goes on", self.name, message)
            self._left_out = True  # after the warning: whoever sees it need not wait for that
        with contextlib.suppress(queue.Empty):  # what waits would hold memory, and a thread that is only slow
            while True:
                self._calls.get_nowait()
