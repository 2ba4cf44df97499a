"""What a person sees of a run: lines, a progress bar on a terminal, and the same lines in log.txt."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import printable
from eir_seq.machine import say
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.redaction import redact

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

MOST_LISTED = 16
"""Values of a list that people see; more are counted."""
LINE_SECONDS = 30.0
"""Where there is no progress bar, a line comes that often."""


class Console:
    """Writes to a stream and, once `log_to` has named it, to a log file; shows bars where the stream is a terminal.

    A stream that is closed (``| head``) or full does not end the run. While entered, warnings that the
    package logs are said, too.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.shows_bar = True
        """Whether training has a bar; off where a callback shows one."""
        self._log: Path | None = None
        self._early: list[str] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._status: Status | None = None
        self._last_line = time.monotonic()
        self._first_step: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        self._warnings = _Warnings(self)
        log = logging.getLogger("eir_seq")
        log.addHandler(self._warnings)
        log.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_bar()
        log = logging.getLogger("eir_seq")
        log.removeHandler(self._warnings)
        log.propagate = True

    def log_to(self, path: Path) -> None:
        """From now on write all lines to `path`, too, those said before included."""
        self._log = path
        early, self._early = self._early, []
        for line in early:
            self._write_log(line)

    def log(self, text: str) -> None:
        """A line for the log only: somebody else says it."""
        self._write_log(printable(str(redact(text))))

    def say(self, text: str) -> None:
        """One line."""
        text = printable(str(redact(text)))
        self._write_log(text)
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        if not say(text, self.stream):
            self.stream, self.terminal = open(os.devnull, "w"), False  # noqa: SIM115

    @contextmanager
    def phase(self, what: str) -> Iterator[list[str]]:
        """A part of the preparations: a spinner on a terminal, then one line with its time.

        What is appended to the list that this gives is put after the name of the phase.
        """
        found: list[str] = []
        start = self._last_line = time.monotonic()
        if self.terminal:
            from rich.console import Console as RichConsole

            with RichConsole(file=self.stream).status(f"{what} ...") as self._status:
                try:
                    yield found
                finally:
                    self._status = None
        else:
            yield found
        detail = f": {', '.join(found)}" if found else ""
        self.say(f"{what}{detail} ({time.monotonic() - start:.1f} s)")

    def progress(self, what: str, done: int, total: int) -> None:
        """How far a long part of the preparations is; seldom a line if there is no terminal."""
        if self._status is not None:
            self._status.update(f"{what}: {done:,} of {total:,} ...")
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{what}: {done:,} of {total:,}")

    # ------------------------------------------------------------------------------------------------- training

    def step(self, step: int, total: int, epoch: int, loss: Callable[[], float | None]) -> None:
        """A training step was done; `loss` gives the recent mean loss and is called only when it is shown."""
        now = time.monotonic()
        if self._first_step is None:
            self._first_step = (step, now)
        if self.terminal and self.shows_bar:
            self._advance(step, total, epoch, loss)
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self.say(f"epoch {epoch}, step {step:,} of {total:,}{_loss(loss)}{self._remaining(step, total, now)}")

    def evaluated(self, measurements: Sequence[Measurement], best: bool) -> None:
        """One line with the values of an evaluation."""
        self._last_line = time.monotonic()
        if not measurements:
            return
        first = measurements[0]
        overall = sorted((m for m in measurements if not m.output), key=lambda m: m.metric == AVERAGE)
        outputs = {m.output for m in measurements} - {""}
        shown = [f"{m.metric} {_decimals(m.value)}" for m in overall]
        for output in sorted(outputs):
            found = {m.metric: m.value for m in measurements if m.output == output and "(" not in m.metric}
            if len(outputs) == 1:
                found.pop("loss", None)  # it is the overall loss, or its multiple
            shown.append(f"{output}: " + ", ".join(f"{metric} {_decimals(value)}" for metric, value in found.items()))
        mark = "  <- best" if best else ""
        self.say(f"epoch {first.epoch}, step {first.step:,}, {first.split}: {'; '.join(shown)}{mark}")

    def end_bar(self) -> None:
        """Take the progress bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    # ------------------------------------------------------------------------------------------------ internals

    def _advance(self, step: int, total: int, epoch: int, loss: Callable[[], float | None]) -> None:
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=RichConsole(file=self.stream),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, completed=step)
        assert self._task is not None
        now = time.monotonic()
        if now - self._last_line >= 0.25 or step == total:  # asking for the loss waits for the device
            self._last_line = now
            self._bar.update(self._task, completed=step, description=f"epoch {epoch}{_loss(loss)}")

    def _remaining(self, step: int, total: int, now: float) -> str:
        assert self._first_step is not None
        first, start = self._first_step
        if step == first:
            return ""
        seconds = (total - step) * (now - start) / (step - first)
        return f", about {duration(seconds)} left"

    def _write_log(self, line: str) -> None:
        if self._log is None:
            self._early.append(line)
            return
        try:
            # Without waiting for the reader of a pipe, nor through a link to somebody else's file.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self._log, flags, 0o666), "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            pass  # a full disk shows where it matters: at the next checkpoint


class _Warnings(logging.Handler):
    """Has the console say what the package warns about."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.say(f"{record.levelname.lower()}: {record.getMessage()}")


def listed(shown: Sequence[str], values: Sequence[Any]) -> str:
    """Values for people, as they are `shown`: long lists of numbers by their range, others by their first ones.

    >>> listed(["a", "b"], ["a", "b"])
    'a, b'
    >>> listed([str(n) for n in range(100)], range(100))
    '100 numbers from 0 to 99'
    """
    if len(values) <= MOST_LISTED:
        return ", ".join(shown)
    if all(isinstance(value, int | float) for value in values):
        return f"{len(values):,} numbers from {min(values):.4g} to {max(values):.4g}"
    return f"{', '.join(shown[:MOST_LISTED])} and {len(values) - MOST_LISTED:,} more"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _decimals(value: float) -> str:
    """Four decimals, or significant digits where these would say nothing."""
    return f"{value:.4f}" if value == 0 or 1e-4 <= abs(value) < 1e9 else f"{value:.4g}"


def _loss(loss: Callable[[], float | None]) -> str:
    value = loss()
    return "" if value is None else f", loss {value:.4f}"
