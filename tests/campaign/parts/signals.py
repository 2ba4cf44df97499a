"""The real command in a process of its own gets a signal at a random time, and is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random

from tests.campaign.case import Case
from tests.campaign.killing import COMMAND, different, left, project, ran, run

TITLE = (
    "SIGKILL (60), SIGTERM (15) and SIGINT (15) at random times, to the process or its group, 0 and 2 loader workers"
)
WANTED = "SIGTERM and SIGINT end it within 10 seconds (143, 130); the same command ends with the same bits"

NUMBERS = {"SIGKILL": 60, "SIGTERM": 15, "SIGINT": 15}
SECONDS = 10.0
"""How long a stopped command, and the loader workers of a killed one, may take to end."""
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Stop:
    """A signal, and when it comes as a share of the processor time that the command takes."""

    name: str
    moment: float
    group: bool
    workers: int

    @property
    def words(self) -> tuple[str, ...]:
        return (*COMMAND, "~outputs.mood", f"data.num_workers={self.workers}")

    @property
    def codes(self) -> tuple[int, int]:
        """As the command ends once it runs, and as the system ends it before; a shell shows both alike."""
        number = signal.Signals[self.name]
        return 128 + number, -number


def cases(seed: int, share: float) -> Sequence[Case]:
    """A sample of the signals."""
    draw = Random(f"{seed} signals")
    stops = [
        Stop(name, draw.random(), group=bool(number % 2), workers=number // 2 % 2 * 2)
        for name, count in NUMBERS.items()
        for number in range(count)
    ]
    chosen = draw.sample(stops, max(1, round(len(stops) * share)))
    return [Case(name_of(stop), partial(stopped, stop)) for stop in sorted(chosen, key=stops.index)]


def name_of(stop: Stop) -> str:
    to = "the group" if stop.group else "the process"
    return f"{stop.name} to {to} after {stop.moment:.3f} of its time, {stop.workers} workers"


def stopped(stop: Stop, folder: Path) -> str | None:
    """Start the command, send the signal, start the command again, and compare what it leaves."""
    moment = stop.moment * duration(stop.workers)
    for attempt in range(9):
        place = folder / str(attempt)
        process = started(stop.words, place)
        while (code := process.poll()) is None and used(process) < moment:
            time.sleep(0.01)
        if code is None:
            break
        if code != 0:
            return f"exit code {code} before the signal: {printed(place)}"
        moment *= 0.9  # it took less than before
    over = "report: " in printed(place)
    (os.killpg if stop.group else os.kill)(process.pid, signal.Signals[stop.name])
    wrong = ending(process, (*stop.codes, 0) if over else stop.codes, place)
    if wrong is not None:
        return wrong
    return run(stop.words, place).fault([0]) or different(comparable(place), comparable(uninterrupted(stop.workers)))


def ending(process: subprocess.Popen[bytes], codes: Sequence[int], folder: Path) -> str | None:
    """What is wrong with how a command and the processes that it started end after a signal."""
    sent = time.monotonic()
    try:
        code = process.wait(SECONDS)
        while _lives(process.pid):
            if time.monotonic() - sent > SECONDS:
                return "it left a process behind"
            time.sleep(0.02)
    except subprocess.TimeoutExpired:
        return f"still running {SECONDS:.0f} seconds after the signal"
    finally:
        if _lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code not in codes:
        return f"exit code {code}: {printed(folder)}"
    return f"traceback: {printed(folder)}" if "Traceback" in printed(folder) else None


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# ------------------------------------------------------------------------------------------- without interruptions


@cache
def uninterrupted(workers: int) -> Path:
    """A folder in which the command ran to its end."""
    return ran((Stop("SIGKILL", 1.0, group=False, workers=workers).words,))


@cache
def duration(workers: int) -> float:
    """Seconds of a processor that the command takes in a process of its own, without those of its loader workers."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        seconds = 0.0
        process = started(Stop("SIGKILL", 1.0, group=False, workers=workers).words, Path(folder) / "case")
        while process.poll() is None:
            seconds = used(process)
            time.sleep(0.01)
        assert process.returncode == 0, printed(Path(folder) / "case")
        return seconds


def used(process: subprocess.Popen[bytes]) -> float:
    """Seconds of a processor that a process has used: other work may share the cores, which clocks would count."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command in a new project, as the leader of a group."""
    folder.mkdir()
    project(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    environment.pop("EIR_SEQ_CONF", None)
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        command = [sys.executable, "-m", "eir_seq", *words]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def printed(folder: Path) -> str:
    """What the command printed at last."""
    return (folder.parent / f"{folder.name}.log").read_text(errors="replace")[-800:]


def comparable(folder: Path) -> dict[str, bytes]:
    """What is left in a folder, without vocabularies: whether they are kept depends on the time."""
    return {name: content for name, content in left(folder).items() if not name.startswith("cache/tokenizer-")}
