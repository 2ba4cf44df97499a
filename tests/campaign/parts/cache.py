"""The cache folder: damaged, shared by runs at the same time, cut off, emptied, full, not writable."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eir_seq.cache.store import Cache, Found, verify
from tests.campaign.case import Case, Started, command, start
from tests.campaign.projects import Outcome, different, lines, outcome, small

TITLE = "cache damaged, built by four runs at once, cut off, evicted, full or read-only"
WANTED = "the run ends as it does without a cache, with one line where something is wrong"
DAMAGED, TOGETHER, KILLED, EVICTED, REFUSED = 60, 4, 12, 8, 20
ERRORS = (errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO)
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime")
MARK = ".used-by-"


def cases(seed: int, share: float) -> Sequence[Case]:
    """Damage, moments and orders that the seed draws."""
    draw = random.Random(seed)
    found = [Case(f"damaged-{number}", partial(damaged, draw.random())) for number in range(DAMAGED)]
    found += [Case(f"together-{number}", partial(together, None)) for number in range(TOGETHER)]
    found += [Case(f"killed-{number}", partial(together, draw.random())) for number in range(KILLED)]
    found += [Case(f"evicted-{number}", partial(evicted, draw.random())) for number in range(EVICTED)]
    found += [Case(f"refused-{number}", partial(refused, draw.random())) for number in range(REFUSED)]
    return draw.sample(found, max(1, round(len(found) * share))) if share < 1 else found


@functools.cache
def reference() -> tuple[Path, Outcome, int]:
    """A project with its filled cache, what its run left, and how many operations on files the cache took."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-cache-"))
    words = small(folder)
    count = folder / "count"
    ended = command(words, folder, prepare=partial(watch, folder / "cache", None, None, count))
    assert ended.code == 0, ended.err
    return folder, outcome(folder / "run"), int(count.read_text())


def prepare() -> None:
    """Keep tokenizers that are trained fast, too."""
    import eir_seq.tokenizers.cache

    eir_seq.tokenizers.cache.SECONDS = 0.0


def check(started: Started, folder: Path, said: int | None = 0) -> str | None:
    """What is wrong with a run that should end well, having said so many lines about the cache."""
    ended = started.wait(120)
    found = [line for line in lines(ended.out + ended.err) if " is damaged (" in line or " cannot be written (" in line]
    wrong = ended.fault([0]) or different(outcome(folder / "run"), reference()[1])
    if wrong is None and said is not None and len(found) != said:
        wrong = f"{len(found)} warnings in place of {said}: {found}"
    return wrong


# ------------------------------------------------------------------------------------------------------------ damage


def damaged(where: float, folder: Path) -> str | None:
    """Damage a file of the cache."""
    draw = random.Random(where)
    source, _, _ = reference()
    shutil.copytree(source / "cache", folder / "cache")
    files = [path for path in sorted((folder / "cache").rglob("*")) if path.is_file() and MARK not in path.name]
    path = draw.choice(files)
    kind = draw.choice(sorted(DAMAGE))
    DAMAGE[kind](path, draw)
    wrong = check(start(small(folder), folder, prepare), folder, said=1)
    wrong = wrong or next(
        (f"{entry} is damaged" for entry in Cache(folder / "cache").entries() if not _whole(entry)), None
    )
    return wrong and f"{kind} of {path.relative_to(folder)}: {wrong}"


def _whole(entry: Found) -> bool:
    try:
        verify(entry.path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def _append(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.randbytes(8))


def _exchange(path: Path, draw: random.Random) -> None:
    """Another entry's file, whole in itself."""
    others = [other for other in path.parent.parent.glob(f"*/{path.name}") if other != path]
    if others:
        shutil.copyfile(draw.choice(sorted(others)), path)
    else:
        path.unlink()


def _zeros(path: Path, draw: random.Random) -> None:
    """Blocks that never reached the disk."""
    content = bytearray(path.read_bytes())
    begin = draw.randrange(len(content))
    end = min(len(content), begin + 1 + draw.randrange(4096))
    content[begin:end] = bytes(end - begin)
    if not any(path.read_bytes()[begin:end]):
        content[0] ^= 1
    path.write_bytes(content)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _file_for_entry(path: Path, draw: random.Random) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(draw.randbytes(100))


def _remove(path: Path, _: random.Random) -> None:
    path.unlink()


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "append": _append,
    "exchange": _exchange,
    "zeros": _zeros,
    "folder": _folder,
    "pipe": _pipe,
    "link": _link,
    "file-for-entry": _file_for_entry,
    "remove": _remove,
}


# ---------------------------------------------------------------------------------------------------- operations


def watch(cache: Path, last: int | None, act: Callable[[], object] | None, count: Path | None = None) -> None:
    """Count the changing operations on files in the cache folder; from the `last` on, act at each."""
    prepare()
    seen = 0
    inside = str(cache.absolute())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, mode, flags = arguments
            if not (set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event in CHANGING:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(inside):
            return
        seen += 1
        if count is not None:
            with os.fdopen(os.open(str(count), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
                file.write(str(seen))
        if act is not None and last is not None and seen > last:
            act()

    sys.addaudithook(hook)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse(code: int) -> None:
    raise OSError(code, os.strerror(code))


# ---------------------------------------------------------------------------------------------------- several runs


def together(moment: float | None, folder: Path) -> str | None:
    """Four runs on one cache at once, one of which may be killed while it works on the cache."""
    cache = folder / "cache"
    _, _, operations = reference()
    started = []
    for number in range(4):
        mine = folder / str(number)
        mine.mkdir()
        words = [*small(mine), f"data.cache_dir={cache}"]
        first = number == 0 and moment is not None
        doing = partial(watch, cache, round((moment or 0) * (operations - 1)), _kill) if first else prepare
        started.append((mine, start(words, mine, doing)))
    killed = started.pop(0) if moment is not None else None
    found = [check(run, mine, said=None) for mine, run in started]
    if killed is not None:
        mine, run = killed
        ended = run.wait(60)
        if ended.code not in (0, -signal.SIGKILL):  # it may have had less to do than alone
            found.append(ended.fault([-signal.SIGKILL]))
        if not (mine / "run" / "result.json").exists():
            found.append(check(start([*small(mine), f"data.cache_dir={cache}"], mine, prepare), mine))
    found.append(_only_entries(cache, folder))
    return next((wrong for wrong in found if wrong), None)


def _only_entries(cache: Path, folder: Path) -> str | None:
    """Whether the cache holds the entries of the reference, each whole, and no more once it was cleaned."""
    ended = command(["cache", "clean", "--dir", str(cache)], folder)
    wanted = {path.name for path in (reference()[0] / "cache").iterdir()}
    found = {path.name for path in cache.iterdir()}
    marks = [path.name for path in cache.rglob(f"{MARK}*")]
    wrong = ended.fault([0]) or (f"cache holds {found}, not {wanted}" if found != wanted else None)
    return wrong or (f"marks are left: {marks}" if marks else None)


def evicted(where: float, folder: Path) -> str | None:
    """Runs whose cache may hold nothing evict what they can, while others read; or somebody removes all of it."""
    draw = random.Random(where)
    cache = folder / "cache"
    started = []
    for number in range(3):
        mine = folder / str(number)
        mine.mkdir()
        workers = draw.choice((0, 0, 1))
        words = [*small(mine), f"data.cache_dir={cache}", "cache.max_size=0", f"data.num_workers={workers}"]
        other = [] if number == 0 else [f"inputs.text.max_length={12 + number}"]
        started.append((mine, start([*words, *other], mine, prepare)))
    removing = draw.random() < 0.5
    found = []
    until = time.monotonic() + 30
    while removing and not (folder / "0" / "run" / "metrics.csv").exists() and time.monotonic() < until:
        time.sleep(0.01)
    if removing:
        shutil.rmtree(cache, ignore_errors=True)
    for number, (mine, run) in enumerate(started):
        if number == 0:
            found.append(check(run, mine, said=None))
        else:
            found.append(run.wait(120).fault([0]))
    return next((wrong for wrong in found if wrong), None)


def refused(where: float, folder: Path) -> str | None:
    """From some operation on, the file system of the cache refuses every change."""
    draw = random.Random(where)
    code = draw.choice(ERRORS)
    _, _, operations = reference()
    last = draw.choice((0, draw.randrange(operations)))
    words = small(folder)
    filled = draw.random() < 0.3
    if filled:
        shutil.copytree(reference()[0] / "cache", folder / "cache")
    doing = partial(watch, folder / "cache", last, partial(_refuse, code))
    wrong = check(start(words, folder, doing), folder, said=None)
    return wrong and f"{errno.errorcode[code]} after {last} operations{' (filled)' if filled else ''}: {wrong}"
