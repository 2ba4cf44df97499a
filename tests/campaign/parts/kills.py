"""Runs are killed at each of their operations on files, and started again with the same command."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from tests.campaign import projects
from tests.campaign.case import Case, Outcome, command
from tests.campaign.tracing import Kill, Operation, traced

TITLE = (
    "kills before and within operations on files: a first run, one with loader workers, an extension, a sweep of 2 jobs"
)
WANTED = "the same command ends with the same bits of every file, and leaves nothing else"

COMMAND = ("experiment=small",)
EXTENDED = (*COMMAND, "trainer.max_epochs=3")
SWEEP = ("-m", *COMMAND, "seed=1,2", "hydra.sweep.dir=sweep")
VARYING = 4
"""Operations that a command may do less than another time, as it logs lines that depend on the time."""
REPEATABLE = re.compile(
    r"(.+/)?(metrics\.csv|result\.json|config\.yaml|(predictions|bundle|checkpoints)/.+)|cache/.+\.arrow|[^/]+"
)
"""Files that are the same to the last bit, however often a run was stopped; others tell times and processes."""

IGNORED = re.compile(r"^tmp/pymp-|/\.used-by-")
"""Python's own sockets in the temporary folder; marks of processes in the cache, which outlive them on purpose."""


@dataclass(frozen=True)
class Scenario:
    """A command, what ran in its folder before, and where it is killed."""

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    each: int = 1
    """Kill at each operation, or at every so many; a sweep's own operations are all among them."""
    within: int = 0
    """Kill within so many of the writes, once more."""
    alone: int = 0
    """Kill the process of the operation only, and not its group, at so many operations, once more."""


SCENARIOS = (
    Scenario("first run", COMMAND, within=20),
    Scenario("two loader workers", (*COMMAND, "data.num_workers=2"), each=4, alone=4),
    Scenario("extension", EXTENDED, before=(COMMAND,)),
    Scenario("sweep", SWEEP, each=20, within=6, alone=10),
)


@dataclass(frozen=True)
class Whole:
    """What a command does and leaves if nothing comes in its way."""

    operations: list[Operation]
    left: dict[str, bytes]
    processes: set[int]

    def name_of(self, number: int) -> str:
        """An operation, named without what is another in every process."""
        name = f"{number} {self.operations[number]}"
        for process in sorted(self.processes, reverse=True):
            name = re.sub(rf"\b{process}\b(-\d+-[0-9a-f]{{8}})?", "PROCESS", name)
        return name


def cases(seed: int, share: float) -> Sequence[Case]:
    """A sample of the points of every scenario."""
    found = []
    for scenario in SCENARIOS:
        points = kills(scenario)
        count = max(1, round(len(points) * share))
        for kill in sorted(Random(f"{seed} {scenario.name}").sample(points, count), key=lambda kill: kill.number):
            within = "" if kill.bytes is None else f", after {kill.bytes} bytes"
            name = f"{scenario.name}: {whole(scenario).name_of(kill.number)}{within}{', alone' if kill.alone else ''}"
            found.append(Case(name, partial(killed, scenario, kill)))
    return found


def kills(scenario: Scenario) -> list[Kill]:
    """The points of a scenario."""
    operations = whole(scenario).operations
    numbers = range(len(operations))
    writes = [number for number in numbers if operations[number].bytes > 1]
    found = [Kill(n) for n in numbers if n % scenario.each == 0 or operations[n].path.startswith("sweep/jobs/")]
    found += [Kill(number, bytes=operations[number].bytes // 2) for number in spread(writes, scenario.within)]
    return found + [Kill(number, alone=True) for number in spread(numbers, scenario.alone)]


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """So many of the numbers, evenly."""
    return [numbers[(2 * index + 1) * len(numbers) // (2 * count)] for index in range(count)]


def killed(scenario: Scenario, kill: Kill, folder: Path) -> str | None:
    """Kill the command, start it again, and compare what it leaves."""
    for number in range(kill.number, max(-1, kill.number - VARYING), -1):
        prepared(scenario, folder)
        ended = traced(scenario.words, folder, replace(kill, number=number), prepare=partial(light, folder))
        if ended.killed is not None or ended.code:
            break
        shutil.rmtree(folder)
        folder.mkdir()
    if ended.killed is None:
        return f"the operation never came; exit code {ended.code}: {ended.err[-300:]}"
    if ended.code != -9 and not (kill.alone and scenario.words == SWEEP and ended.code == 3):
        return f"killed at {ended.killed}, and ended with exit code {ended.code}: {ended.err[-300:]}"
    again = run(scenario.words, folder)
    wrong = again.fault([0]) or different(left(folder), whole(scenario).left)
    segments = [
        path.name for path in Path("/dev/shm").glob("torch_*") if int(path.name.split("_")[1]) in ended.processes
    ]
    return wrong or (f"left shared memory: {', '.join(segments)}" if segments else None)


# ------------------------------------------------------------------------------------------- without interruptions


@cache
def whole(scenario: Scenario) -> Whole:
    """The command run to its end."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        folder = Path(temporary) / "case"
        folder.mkdir()
        prepared(scenario, folder)
        ended = traced(scenario.words, folder, prepare=partial(light, folder))
        assert ended.code == 0, ended.err
        return Whole(ended.operations, left(folder), ended.processes)


def prepared(scenario: Scenario, folder: Path) -> None:
    """Make the project, and do what was done before."""
    if not scenario.before:
        project(folder)
        return
    shutil.copytree(ran(scenario.before), folder, dirs_exist_ok=True)


@cache
def ran(commands: tuple[tuple[str, ...], ...]) -> Path:
    """A project in which commands ran."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    project(folder)
    for words in commands:
        ended = run(words, folder)
        assert ended.code == 0, ended.err
    return folder


def project(folder: Path) -> None:
    """A project of 24 rows, whose runs can be extended."""
    projects.small(folder, rows=24, data={"batch_size": 8}, trainer={"keep_optimizer_state": True})
    (folder / "tmp").mkdir()


def run(words: Sequence[str], folder: Path) -> Outcome:
    """A command in a child process that nobody watches."""
    return command(words, folder, prepare=partial(light, folder), seconds=300)


def left(folder: Path) -> dict[str, bytes]:
    """All files and folders below a folder, and the contents of those that `REPEATABLE` names."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not IGNORED.search(name):
            known = path.is_file() and REPEATABLE.fullmatch(name)
            found[name] = path.read_bytes().replace(str(folder).encode(), b"FOLDER") if known else b""
    return found


def different(found: dict[str, bytes], wanted: dict[str, bytes]) -> str | None:
    """How two folders differ, or nothing."""
    for what, names in (
        ("left", found.keys() - wanted.keys()),
        ("lacks", wanted.keys() - found.keys()),
        ("other bytes in", {name for name in found.keys() & wanted.keys() if found[name] != wanted[name]}),
    ):
        if names:
            return f"{what} {', '.join(sorted(names)[:5])}"
    return None


# ------------------------------------------------------------------------------------------------ in the child


def light(folder: Path) -> None:
    """Have a command keep every vocabulary, and put nothing outside of `folder`."""
    from eir_seq.tokenizers.cache import TokenizerCache

    TokenizerCache.__init__.__kwdefaults__["seconds"] = 0.0
    os.environ |= {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "tmp" / "cache")}
    tempfile.tempdir = str(folder / "tmp")
    subprocess.Popen = Forked


_Popen = subprocess.Popen


class Forked(_Popen):
    """Runs jobs of a sweep in forked processes, which spares each of them the imports."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        if list(words[:3]) != [sys.executable, "-m", "eir_seq"]:
            super().__init__(words, **options)
            return
        self.returncode, self._child_created, self._waitpid_lock = None, True, threading.Lock()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()
            for descriptor in (1, 2):
                os.dup2(options["stdout"].fileno(), descriptor)
            os.environ.update(options["env"])
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            GlobalHydra.instance().clear()
            from eir_seq.commands import main

            code = main(words[3:])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
