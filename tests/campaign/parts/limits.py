"""Limits of the machine other than the disk: file handles, processes, shared memory, a full standard output."""

from __future__ import annotations

import functools
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.campaign import namespaces
from tests.campaign.case import Case, Outcome, command, import_all
from tests.campaign.projects import different, lines, outcome, small

TITLE = "few file handles or processes, no shared memory, standard output on a full disk"
WANTED = "the same bits with fewer worker processes, or one line"
NOBODY = 65534


def cases(seed: int, share: float) -> Sequence[Case]:
    """All of them, or a sample."""
    found = [
        Case(f"{most} handles, {workers} workers", partial(handles, most, workers))
        for most in (12, 16, 20, 24, 32, 48, 64, 100)
        for workers in (0, 2, 8)
    ]
    found += [Case(f"full output of {' '.join(words)}", partial(full_output, words)) for words in PRINTING]
    if os.getuid() == 0 and not _readable_by_all():
        print(
            "limits: other users cannot read this installation of Python; limits of processes are not tried", flush=True
        )
    elif os.getuid() == 0:
        found += [
            Case(f"{extra} more processes, {workers} workers", partial(processes, extra, workers))
            for extra, workers in ((0, 0), (0, 2), (3, 8))
        ]
    if namespaces.possible():
        found += [
            Case(f"shared memory {what}, {workers} workers", partial(_apart, partial(shared_memory, what, workers)))
            for what in ("hidden", "full")
            for workers in (0, 2)
        ]
    found += [Case(f"{most} handles, sweep", partial(handles_of_sweep, most)) for most in (16, 64)]
    return random.Random(seed).sample(found, max(1, round(len(found) * share))) if share < 1 else found


PRINTING = (["train"], ["models", "list"], ["schema"], ["--help"], ["check"], ["train", "--cfg", "job"])


def _readable_by_all() -> bool:
    """Whether a user without rights can run the program from here."""
    places = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__), Path(tempfile.gettempdir())]
    return all(part.stat().st_mode & 0o005 == 0o005 for path in places for part in path.resolve().parents)


def _apart(check: Callable[[Path], str | None], folder: Path) -> str | None:
    import_all()
    _reference()
    return namespaces.apart(lambda: check(folder))


@functools.cache
def _reference() -> dict[str, str]:
    folder = Path(tempfile.mkdtemp(prefix="campaign-limits-")) / "case"
    folder.mkdir()
    ended = command(small(folder), folder)
    assert ended.code == 0, ended
    return outcome(folder / "run")


def _trained_or_told(
    ended: Outcome, folder: Path, words: Sequence[str], codes: Sequence[int] = (0, 2, 3)
) -> str | None:
    """The command trained to equal bits, or said one line and does so without the limit."""
    if (wrong := ended.fault(codes)) is not None:
        return wrong
    said = lines(ended.err)
    if len(said) != (1 if ended.code else 0):
        return f"exit code {ended.code}, {len(said)} lines: {ended.err.strip()[-500:]}"
    if ended.code:
        again = command(words, folder)
        if (wrong := again.fault([0])) is not None:
            return f"then, without the limit: {wrong}"
    return different(outcome(folder / "run"), _reference())


def handles(most: int, workers: int, folder: Path) -> str | None:
    """So many file handles in all."""
    _reference()
    words = [*small(folder), f"data.num_workers={workers}"]
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most))
    return _trained_or_told(command(words, folder, prepare=limit, seconds=120), folder, words)


def handles_of_sweep(most: int, folder: Path) -> str | None:
    """Jobs have the limit of the sweep."""
    words = ["-m", *small(folder), "trainer.max_steps=1", "hydra.sweep.dir=sweep", "seed=1,2", "data.num_workers=1"]
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most))
    ended = command(words, folder, prepare=limit, seconds=200)
    logs = "".join(path.read_text() for path in folder.glob("sweep/jobs/*.log"))
    return ended.fault([0, 3]) or (f"traceback in a job: {logs[-300:]}" if "Traceback" in logs else None)


def processes(extra: int, workers: int, folder: Path) -> str | None:
    """A user who may start so many more processes and threads."""
    _reference()
    words = [*small(folder), f"data.num_workers={workers}"]
    for path in (folder.parent, folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)

    def become() -> None:
        os.environ["HOME"] = str(folder)
        resource.setrlimit(resource.RLIMIT_NPROC, (extra + 1, extra + 1))
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return _trained_or_told(command(words, folder, prepare=become, seconds=120), folder, words)


def shared_memory(what: str, workers: int, folder: Path) -> str | None:
    """``/dev/shm`` is not there, or has no space."""
    words = [*small(folder), f"data.num_workers={workers}"]
    if what == "hidden":
        namespaces.hide(Path("/dev/shm"))
    else:
        namespaces.small_disk(Path("/dev/shm"), "4k")
        Path("/dev/shm/ballast").write_bytes(bytes(4096))
    ended = command(words, folder, seconds=120)
    wrong = ended.fault([0] if workers == 0 else [0, 3])
    if wrong or len(lines(ended.err)) != (1 if ended.code else 0):
        return wrong or f"exit code {ended.code}: {ended.err.strip()[-500:]}"
    return None if ended.code else different(outcome(folder / "run"), _reference())


def full_output(words: Sequence[str], folder: Path) -> str | None:
    """Standard output goes to ``/dev/full``: training goes on; commands that only print end with one line."""
    _reference()
    trains = list(words) == ["train"]
    experiment = small(folder) if words[0] in ("train", "check") else []

    def redirect() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    ended = command([*words, *experiment], folder, prepare=redirect)
    wanted = 0 if words[0] == "check" or trains else 3
    said = lines(ended.err)
    if (wrong := ended.fault([wanted])) is not None:
        return wrong
    if len(said) != 1 or "standard output" not in said[0]:
        return f"said {ended.err.strip()[-300:]}"
    return different(outcome(folder / "run"), _reference()) if trains else None
