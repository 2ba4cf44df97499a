"""A disk that is full, has no more files, or cannot be written, at many moments of what the program does."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign import namespaces
from tests.campaign.case import Case, Outcome, command, import_all
from tests.campaign.forked import Forked
from tests.campaign.projects import different, lines, outcome, small

TITLE = "disk full at some moment, for one of two processes that train in shards, out of inodes, read-only"
WANTED = "exit code 3 (read-only: 2), one line; with space again the same command ends with equal bits"
MOMENTS, SIZES, INODES, CACHES, PREDICTIONS, SWEEPS, RANKS = 32, 12, 6, 4, 8, 3, 16
PAGE = 4096
TWO = ("trainer.devices=2", "trainer.strategy=fsdp")
CHANGING = ("os.mkdir", "os.rename", "os.link", "os.truncate")


def cases(seed: int, share: float) -> Sequence[Case]:
    """Moments that the seed draws."""
    if not namespaces.possible():
        print("disk: this machine lets nobody mount a small file system; nothing is tried", flush=True)
        return []
    draw = random.Random(seed)
    found = [
        Case(f"full-{number}", partial(_apart, partial(full, draw.random(), draw.choice((0, 0, 1, 3, 8)), (), 0)))
        for number in range(MOMENTS)
    ]
    found += [Case(f"size-{number}", partial(_apart, partial(sized, draw.random()))) for number in range(SIZES)]
    found += [Case(f"inodes-{number}", partial(_apart, partial(inodes, draw.random()))) for number in range(INODES)]
    found += [Case(f"cache-{number}", partial(_apart, partial(cache, draw.random()))) for number in range(CACHES)]
    found += [
        Case(f"predict-{number}", partial(_apart, partial(predictions, draw.random(), number % 3)))
        for number in range(PREDICTIONS)
    ]
    found += [Case(f"compare-{number}", partial(_apart, partial(compare, number))) for number in range(2)]
    found += [Case(f"read-only-{what}", partial(_apart, partial(read_only, what))) for what in READ_ONLY]
    found += [Case(f"sweep-{number}", partial(_apart, partial(sweep, draw.random()))) for number in range(SWEEPS)]
    found += [
        Case(f"rank-{n % 2}-{n}", partial(_apart, partial(full, draw.random(), draw.choice((0, 0, 1)), TWO, n % 2)))
        for n in range(RANKS)
    ]
    return draw.sample(found, max(1, round(len(found) * share))) if share < 1 else found


def _apart(check: partial[str | None], folder: Path) -> str | None:
    import_all()
    _reference()
    if TWO in check.args:
        _reference(TWO)
    return namespaces.apart(lambda: check(folder))


# -------------------------------------------------------------------------------------------------- full at a moment


class Moments:
    """Counts the operations on files of a folder, and acts at one of them.

    As an audit hook it sees what Python opens for writing, makes, renames and truncates; native code that writes comes
    between two of these and meets what was done at the first.
    """

    def __init__(self, folder: Path, last: int, act: Callable[[], object], rank: int = 0) -> None:
        self.folder, self.last, self.act, self.rank = str(folder.absolute()), last, act, str(rank)
        self.seen: dict[str, int] = {}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event in CHANGING:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(self.folder):
            return
        rank = os.environ.get("RANK", "0")  # of the process: the hook is inherited by those of other ranks
        self.seen[rank] = self.seen.get(rank, 0) + 1
        if rank == self.rank and self.seen[rank] == self.last:
            self.act()

    def install(self) -> None:
        """From now on, to the end of the process."""
        sys.addaudithook(self)


def _fill(disk: Path, leave: int) -> None:
    """Take all space of a disk but for some pages."""
    handle = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
    size = 0
    for block in (1 << 20, PAGE):
        with suppress(OSError):
            while True:
                size += os.write(handle, bytes(block))
    os.ftruncate(handle, max(0, size - leave * PAGE))
    os.close(handle)


def _fill_inodes(disk: Path) -> None:
    """Take all inodes of a disk."""
    (disk / "files").mkdir()
    with suppress(OSError):
        for number in range(10_000):
            os.close(os.open(disk / "files" / str(number), os.O_WRONLY | os.O_CREAT))


def _empty(disk: Path) -> None:
    (disk / "ballast").unlink(missing_ok=True)
    shutil.rmtree(disk / "files", ignore_errors=True)


def _at_moment(disk: Path, number: int, act: Callable[[], object], rank: int = 0) -> Callable[[], None]:
    """What a child does before the command: its temporary files go to the disk, and `act` comes at a moment."""

    def prepare() -> None:
        (disk / "tmp").mkdir(exist_ok=True)
        os.environ["TMPDIR"], tempfile.tempdir = str(disk / "tmp"), None
        _fork()
        Moments(disk, number, act, rank).install()

    return prepare


def _fork() -> None:
    """In a command's process: the other processes of a training are forks."""
    subprocess.Popen = Forked  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------ the command


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbs: what it left, the moments in it by rank, the pages it takes, and its folder."""

    outcome: dict[str, str]
    moments: dict[int, int]
    pages: int
    folder: Path


@functools.cache
def _reference(more: tuple[str, ...] = ()) -> Reference:
    folder = Path(tempfile.mkdtemp(prefix="campaign-disk-")) / "case"
    disk, peak = folder / "disk", folder / "pages"
    disk.mkdir(parents=True)
    found: dict[str, int] = {"pages": 0}

    class Counting(Moments):
        def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
            before = dict(self.seen)
            super().__call__(event, arguments)
            if self.seen == before:
                return
            used = sum(-(-path.stat().st_size // PAGE) for path in disk.rglob("*") if path.is_file())
            found["pages"] = max(found["pages"], used)
            rank = os.environ.get("RANK", "0")
            (folder / f"moments-{rank}").write_text(str(self.seen[rank]))
            peak.write_text(str(found["pages"]))

    def prepare() -> None:
        _at_moment(disk, 0, lambda: None)()
        Counting(disk, 0, lambda: None).install()

    ended = command([*_project(folder), *more], folder, prepare=prepare)
    assert ended.code == 0, ended
    moments = {int(path.name[-1]): int(path.read_text()) for path in folder.glob("moments-*")}
    return Reference(outcome(disk / "run"), moments, int(peak.read_text()), folder)


def _project(folder: Path) -> list[str]:
    return [*small(folder), "run.dir=disk/run", "data.cache_dir=disk/cache"]


def _said(ended: Outcome, codes: Sequence[int]) -> str | None:
    """What is wrong with how a command ended that could not write."""
    wrong = ended.fault(codes)
    said = lines(ended.err)
    if wrong is None and ended.code and len(said) != 1:
        return f"{len(said)} lines: {ended.err.strip()[-400:]}"
    if wrong is None and not ended.code and said:
        return f"exit code 0, and said {ended.err.strip()[-400:]}"
    return wrong


def _ends_equal(words: Sequence[str], folder: Path, first: Outcome, more: tuple[str, ...] = ()) -> str | None:
    """Run the command again, where there is space, and compare with the reference."""
    run, wanted = folder / "disk" / "run", _reference(more).outcome
    if first.code == 0 and (wrong := different(outcome(run), wanted)) is not None:
        return f"exit code 0, and {wrong}"
    again = command(words, folder, prepare=_fork)
    if (wrong := again.fault([0])) is not None:
        return f"then, with space: {wrong} (first: {first.err.strip()[-200:]})"
    if again.err:
        return f"then, with space: said {again.err.strip()[-300:]}"
    if not (run / "report" / "index.html").is_file():
        return "then, with space: no report"
    left = [path.relative_to(folder).as_posix() for path in (folder / "disk").rglob("*") if "partial" in path.name]
    return f"left {left}" if left else different(outcome(run), wanted)


def full(moment: float, leave: int, more: tuple[str, ...], rank: int, folder: Path) -> str | None:
    """The disk with the run folder, the cache and temporary files is full from some moment of a process on."""
    disk, number = folder / "disk", 1 + int(moment * _reference(more).moments[rank])
    namespaces.small_disk(disk, "64m")
    words = [*_project(folder), *more]
    ended = command(words, folder, prepare=_at_moment(disk, number, lambda: _fill(disk, leave), rank), seconds=120)
    _empty(disk)
    return _said(ended, [0, 3]) or _ends_equal(words, folder, ended, more)


def sized(share: float, folder: Path) -> str | None:
    """A disk that is too small, wherever that shows."""
    disk, pages = folder / "disk", 1 + int(share * _reference().pages)
    namespaces.small_disk(disk, str(pages * PAGE))
    words = _project(folder)
    ended = command(words, folder, prepare=_at_moment(disk, 0, lambda: None))
    namespaces.resize(disk, "64m")
    return _said(ended, [0, 3]) or _ends_equal(words, folder, ended)


def inodes(moment: float, folder: Path) -> str | None:
    """From some moment on no file can be made."""
    disk, number = folder / "disk", 1 + int(moment * _reference().moments[0])
    namespaces.small_disk(disk, "64m", inodes=400)
    words = _project(folder)
    ended = command(words, folder, prepare=_at_moment(disk, number, lambda: _fill_inodes(disk)))
    _empty(disk)
    return _said(ended, [0, 3]) or _ends_equal(words, folder, ended)


def cache(moment: float, folder: Path) -> str | None:
    """Only the disk with the cache is full: nothing depends on it."""
    disk, number = folder / "full", 1 + int(moment * 4)
    namespaces.small_disk(disk, "64m")
    words = [*small(folder), "run.dir=disk/run", "data.cache_dir=full"]
    ended = command(words, folder, prepare=Moments(disk, number, lambda: _fill(disk, 0)).install)
    _empty(disk)
    return _said(ended, [0]) or _ends_equal(words, folder, ended)


def predictions(moment: float, what: int, folder: Path) -> str | None:
    """Predictions of a finished run that find no space: by name, in the run folder, in temporary files."""
    disk = folder / "disk"
    namespaces.small_disk(disk, "64m")
    shutil.copytree(_reference().folder, folder, dirs_exist_ok=True)
    output = disk / ("out.csv" if what == 0 else "run/predictions/test.predicted.csv")
    words = ["predict", "run=disk/run", "data.test=test.csv", *([f"output={output}"] if what == 0 else [])]
    ended = command(words, folder, prepare=_at_moment(disk, 1 + int(moment * 6), lambda: _fill(disk, what)))
    test = disk / "run" / "predictions" / "test.csv"
    if output.exists() and output.read_bytes() != test.read_bytes():
        return f"{output.name} is not whole"
    _empty(disk)
    wrong = _said(ended, [0, 3])
    left = [path.name for path in output.parent.iterdir() if "partial" in path.name]
    if wrong or left:
        return wrong or f"left {left}"
    again = command(words, folder)
    if (wrong := again.fault([0])) is not None:
        return f"then, with space: {wrong}"
    return None if output.read_bytes() == test.read_bytes() else "other predictions than those of the run"


def sweep(moment: float, folder: Path) -> str | None:
    """The records of a sweep find no space."""
    disk = folder / "disk"
    namespaces.small_disk(disk, "64m")
    words = ["-m", *small(folder), "trainer.max_steps=1,2", "hydra.sweep.dir=disk/sweep"]
    ended = command(words, folder, prepare=_at_moment(disk, 1 + int(moment * 14), lambda: _fill(disk, 0)), seconds=120)
    _empty(disk)
    wrong = ended.fault([0, 3])
    if wrong or (ended.code and len(lines(ended.err)) != 1):
        return wrong or f"lines: {ended.err}"
    again = command(words, folder, seconds=120)
    results = len(list(disk.glob("sweep/*/result.json")))
    return again.fault([0]) or (None if results == 2 else f"{results} results of 2")


def compare(leave: int, folder: Path) -> str | None:
    """``runs compare`` finds no space for its tables."""
    disk = folder / "disk"
    namespaces.small_disk(disk, "64m")
    shutil.copytree(_reference().folder, folder, dirs_exist_ok=True)
    ended = command(["runs", "compare", "disk"], folder, prepare=_at_moment(disk, 1 + leave, lambda: _fill(disk, 0)))
    _empty(disk)
    return _said(ended, [3]) or command(["runs", "compare", "disk"], folder).fault([0])


# --------------------------------------------------------------------------------------------------------- read-only

READ_ONLY = ("run", "ranks", "root", "cache", "home", "data", "output", "finished", "sweep", "compare")


def read_only(what: str, folder: Path) -> str | None:
    """One folder that cannot be written: where something is to be written, exit code 2; else it makes no difference."""
    target = folder / "disk"
    target.mkdir()
    words = [*small(folder), "run.dir=run"]
    wanted, home = 2, folder
    if what in ("output", "finished", "compare"):
        shutil.copytree(_reference().folder, folder, dirs_exist_ok=True)
        words = ["predict", "run=disk/run", "data.test=test.csv"]
    match what:
        case "run" | "ranks":
            words[-1:] = ["run.dir=disk/run", *(TWO if what == "ranks" else ())]
        case "root":
            words[-1:] = ["run.dir=null", "run.root=disk"]
        case "cache":
            words.append("data.cache_dir=disk/cache")
            wanted = 0
        case "home":
            words.append("data.cache_dir=null")
            wanted, home = 0, target
        case "data":
            target, wanted = folder / "conf", 0
        case "output":
            words.append("output=disk/out.csv")
        case "sweep":
            words = ["-m", *words[:-1], "seed=1,2", "hydra.sweep.dir=disk/sweep"]
        case "compare":
            words = ["runs", "compare", "disk"]
    namespaces.read_only(target)
    before = sorted(target.rglob("*"))

    def prepare() -> None:
        os.environ["HOME"] = str(home)
        os.environ.pop("XDG_CACHE_HOME", None)

    ended = command(words, folder, prepare=prepare)
    if wanted == 2 and (folder / "run").exists():
        return "a run folder was made"
    if wanted == 2 and "cannot be written" not in ended.err:
        return f"said {ended.err.strip()}"
    return _said(ended, [wanted]) or (None if before == sorted(target.rglob("*")) else "the folder has changed")
