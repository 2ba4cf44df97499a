"""Kills a command at its operations on files, starts it again, and compares what it leaves."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random

from tests.campaign import projects
from tests.campaign.case import Case, Outcome, command
from tests.campaign.forked import Forked
from tests.campaign.projects import lines
from tests.campaign.tracing import Kill, Operation, Traced, traced

COMMAND = ("experiment=small",)
SMALL = 0.01
"""A share of which a scenario would have a case or two."""
VARYING = 4
"""Operations that a command may do less than another time, as it logs lines that depend on the time."""
REPEATABLE = re.compile(
    r"(.+/)?(metrics\.csv|result\.json|config\.yaml|(predictions|bundle|checkpoints)/.+)|cache/.+\.arrow|[^/]+"
    r"|search/(trials\.csv|sweep\.json)"
)
"""Files that are the same to the last bit, however often a run was stopped; others tell times and processes."""
IGNORED = re.compile(r"^tmp/pymp-|/\.used-by-|^store/\.uploading-")
"""Python's own sockets in the temporary folder; marks of processes in the cache, which outlive them on purpose; uploads
that a store does not show."""
SURVEY = re.compile(r"survey-[0-9a-f]{64}")
"""What the cache keeps of streamed files is named by their paths and times, which are others in every case."""

Files = dict[str, bytes]


def project(folder: Path) -> None:
    """A project of 24 rows, whose runs can be extended."""
    projects.small(folder, rows=24, data={"batch_size": 8}, trainer={"keep_optimizer_state": True})
    (folder / "tmp").mkdir()


@dataclass(frozen=True)
class Scenario:
    """A command, what ran in its folder before, and where it is killed.

    Attributes:
        each: kill at each operation, or at every so many.
        always: the beginnings of paths whose operations are all among them.
        within: kill within so many of the writes, once more.
        one: kill the process of the operation alone, at so many operations, once more.
        others: kill the processes other than that one, at so many operations at which there are some.
        terminated: send SIGTERM to one or the other process, at so many of these.
        lost: removed after the kill, as if the command went on on another machine.
        make: writes the project.
        prepare: what a command does first, in its process.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    each: int = 1
    always: tuple[str, ...] = ()
    within: int = 0
    one: int = 0
    others: int = 0
    terminated: int = 0
    lost: tuple[str, ...] = ()
    make: Callable[[Path], None] = project
    prepare: Callable[[Path], None] = lambda _: None

    def light(self, folder: Path) -> None:
        """In a command's process."""
        light(folder)
        self.prepare(folder)


@dataclass(frozen=True)
class Whole:
    """What a command does and leaves if nothing comes in its way."""

    operations: list[Operation]
    left: Files
    processes: set[int]

    def name_of(self, number: int) -> str:
        """An operation, named without what is another in every process."""
        name = f"{number} {self.operations[number]}"
        for process in sorted(self.processes, reverse=True):
            name = re.sub(rf"\b{process}\b(-\d+-[0-9a-f]{{8}})?", "PROCESS", name)
        return re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "UUID", name)


Check = Callable[[Scenario, Kill, Traced, Path], "str | None"]
"""What is wrong with what a killed command left and with what the command does next."""


def cases(scenarios: Sequence[Scenario], seed: int, share: float, check: Check | None = None) -> Sequence[Case]:
    """A sample of the points of every scenario; a small one is of some of them, as each has to run to its end first."""
    found = []
    if share < SMALL:
        scenarios = Random(seed).sample(scenarios, max(1, round(len(scenarios) * share / SMALL)))
    for scenario in scenarios:
        points = kills(scenario)
        count = max(1, round(len(points) * share))
        for kill in sorted(Random(f"{seed} {scenario.name}").sample(points, count), key=lambda kill: kill.number):
            found.append(Case(_name(scenario, kill), partial(killed, scenario, kill, check or continued)))
    return found


def _name(scenario: Scenario, kill: Kill) -> str:
    within = "" if kill.bytes is None else f", after {kill.bytes} bytes"
    whom = {"all": "", "one": ", alone", "others": ", the other process"}[kill.whom]
    sent = "" if kill.signal == signal.SIGKILL else f", {signal.Signals(kill.signal).name}"
    return f"{scenario.name}: {whole(scenario).name_of(kill.number)}{within}{whom}{sent}"


def kills(scenario: Scenario) -> list[Kill]:
    """The points of a scenario."""
    operations = whole(scenario).operations
    numbers = range(len(operations))
    writes = [number for number in numbers if operations[number].bytes > 1]
    several = [number for number in numbers if operations[number].processes > 1]
    found = [Kill(n) for n in numbers if n % scenario.each == 0 or operations[n].path.startswith(scenario.always)]
    found += [Kill(number, bytes=operations[number].bytes // 2) for number in spread(writes, scenario.within)]
    found += [Kill(number, whom="one") for number in spread(numbers, scenario.one)]
    found += [Kill(number, whom="others") for number in spread(several, scenario.others)]
    stopped = enumerate(spread(several, scenario.terminated))
    return found + [Kill(n, whom=("one", "others")[i % 2], signal=signal.SIGTERM) for i, n in stopped]


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """So many of the numbers, evenly; all of them if there are fewer."""
    if count >= len(numbers):
        return list(numbers)
    return [numbers[(2 * index + 1) * len(numbers) // (2 * count)] for index in range(count)]


def killed(scenario: Scenario, kill: Kill, check: Check, folder: Path) -> str | None:
    """Kill the command, and look at what it leaves."""
    for number in range(kill.number, max(-1, kill.number - VARYING), -1):
        prepared(scenario, folder)
        ended = traced(scenario.words, folder, replace(kill, number=number), prepare=partial(scenario.light, folder))
        if ended.killed is not None or ended.code:
            break
        shutil.rmtree(folder)
        folder.mkdir()
    if ended.killed is None:
        return f"the operation never came; exit code {ended.code}: {ended.err[-300:]}"
    wrong = _ending(kill, ended)
    if wrong is not None:
        return f"{kill.whom} got the signal at {ended.killed}: {wrong}"
    for name in scenario.lost:
        shutil.rmtree(folder / name, ignore_errors=True)
    wrong = check(scenario, kill, ended, folder)
    segments = [
        path.name for path in Path("/dev/shm").glob("torch_*") if int(path.name.split("_")[1]) in ended.processes
    ]
    return wrong or (f"left shared memory: {', '.join(segments)}" if segments else None)


def _ending(kill: Kill, ended: Traced) -> str | None:
    """What is wrong with how the command ended of which all or some processes got a signal."""
    if ended.timed_out:
        return ended.err
    codes: tuple[int, ...] = (3, 0)  # 0 if the others had done what there was to do
    if kill.signal == signal.SIGTERM:
        codes = (143, 0)
    elif ended.main:
        codes = (-signal.SIGKILL,)
    said = lines(ended.err)
    if ended.code not in codes or "Traceback" in ended.err or len(said) > (ended.code == 3):
        return f"exit code {ended.code}, {len(said)} lines: {ended.err[-600:]}"
    return None


def continued(scenario: Scenario, kill: Kill, ended: Traced, folder: Path) -> str | None:
    """Start the command again, and compare what it leaves."""
    again = run(scenario.words, folder, scenario.light)
    # What was lost is made again only where something is left to do.
    found, wanted = (
        {n: content for n, content in files.items() if not n.startswith(scenario.lost)}
        for files in (left(folder), whole(scenario).left)
    )
    return again.fault([0]) or different(found, wanted)


# ------------------------------------------------------------------------------------------- without interruptions


@cache
def whole(scenario: Scenario) -> Whole:
    """The command run to its end."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        folder = Path(temporary) / "case"
        folder.mkdir()
        prepared(scenario, folder)
        ended = traced(scenario.words, folder, prepare=partial(scenario.light, folder))
        assert ended.code == 0, ended.err
        return Whole(ended.operations, left(folder), ended.processes)


def prepared(scenario: Scenario, folder: Path) -> None:
    """Make the project, and do what was done before."""
    if not scenario.before:
        scenario.make(folder)
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


def left(folder: Path) -> Files:
    """All files and folders below a folder, and the contents of those that `REPEATABLE` names."""
    found = {}
    surveys: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        name = SURVEY.sub(lambda match: surveys.setdefault(match[0], f"survey {len(surveys)}"), name)
        of_store = name.startswith("store/") and path.is_dir()  # a store has files alone
        if not (of_store or IGNORED.search(name)):
            known = path.is_file() and REPEATABLE.fullmatch(name)
            found[name] = path.read_bytes().replace(str(folder).encode(), b"FOLDER") if known else b""
    return found


def different(found: Files, wanted: Files) -> str | None:
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


def run(words: Sequence[str], folder: Path, prepare: Callable[[Path], None] = light) -> Outcome:
    """A command in a child process that nobody watches."""
    return command(words, folder, prepare=partial(prepare, folder), seconds=300)
