"""Hostile files: data, models, tokenizers, experiments, bundles and run folders that came from elsewhere.

Each is met by a command in a project of its own. The command ends with exit code 2 (or runs, where the content does no
harm), within seconds and below 1 GB; nothing that a file names is run, nothing is written outside of the project, and
what a file holds reaches neither the terminal nor the report unescaped.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.case import Case, Outcome, command, import_all
from tests.campaign.parts import damaged
from tests.campaign.projects import lines
from tests.hostile.collection import HOSTILE, Maker, prepare
from tests.hostile.more import every
from tests.models import tiny as tiny

TITLE = "hostile data, models, tokenizers, experiments, bundles and run folders"
WANTED = "exit code 2, or no harm: 10 seconds, 1 GB, nothing run, nothing written elsewhere, all output escaped"

CPU_SECONDS, SECONDS, MEMORY, MOST_LINES = 10, 60, 1 << 30, 30
"""Of processor time, as other work may share the cores; what waits for ever is stopped by the clock."""
PROGRAMS = ("git", "python", "uname", "lscpu", "ldconfig", "gcc", "cc")
"""What the program itself starts."""
KEPT = "not to be changed\n"

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@functools.cache
def template() -> Path:
    """A project with a published model, a finished run and its bundle."""
    project = Path(tempfile.mkdtemp(prefix="campaign-template-")) / "project"
    atexit.register(shutil.rmtree, project.parent, ignore_errors=True)
    project.mkdir()
    prepare(project)
    shutil.copytree(damaged.template("published")[0] / "published", project / "published")
    words = ["+experiment=texts", "run.dir=run", "trainer.keep_optimizer_state=true"]
    ended = command(words, project)
    assert ended.code == 0, ended.err
    shutil.copytree(project / "run" / "bundle", project / "bundle")
    return project


def cases(seed: int, share: float) -> Sequence[Case]:
    """The collection of the tests, looked through, and what is made for the campaign alone."""
    looked_through = {name: _checked(maker) for name, (maker, _) in HOSTILE.items()}
    found = [Case(name, partial(met, maker)) for name, maker in {**looked_through, **dict(every())}.items()]
    return found if share == 1 else Random(seed).sample(found, max(1, round(len(found) * share)))


def _checked(maker: Maker) -> Maker:
    return lambda folder: ["check", *maker(folder)]


def met(maker: Maker, folder: Path) -> str | None:
    """Make a file and run the command that meets it."""
    import_all()
    shutil.copytree(template(), folder, dirs_exist_ok=True)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text(KEPT)
    words = _made(maker, folder)
    outcome = command(words, folder, prepare=_guarded, seconds=SECONDS)
    return _fault(outcome) or _harm(outcome, folder)


def _made(maker: Maker, folder: Path) -> list[str]:
    """The words of the command, made in a child: what is large is gone with it, and the parent computes nothing."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.write(writing, json.dumps(maker(folder)).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as file:
        content = file.read()
    assert os.waitpid(process, 0)[1] == 0, "the file could not be made"
    words: list[str] = json.loads(content)
    return words


def _guarded() -> None:
    """Bound processor time, and end the process where it is about to start a program."""
    os.environ.pop("RUST_BACKTRACE", None)  # for whoever looks for a fault of the tokenizers library
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            started = Path(os.fsdecode(arguments[0] or "")).name.startswith(PROGRAMS)
        else:
            started = event not in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "urllib.Request")
        if not started:
            os.write(2, f"EXECUTED {event} {arguments}\n".encode())
            os._exit(99)

    sys.addaudithook(hook)


def _fault(outcome: Outcome) -> str | None:
    wrong = outcome.fault([0, 2])
    if wrong is None and outcome.memory > MEMORY:
        wrong = f"{outcome.memory >> 20:,} MB"
    if wrong is None and outcome.code and not 1 <= len(lines(outcome.err)) <= MOST_LINES:
        wrong = f"{len(lines(outcome.err))} lines: {outcome.err[:300]}"
    return wrong


def _harm(outcome: Outcome, folder: Path) -> str | None:
    """What a file did that it should not."""
    outside = folder.parent / "outside"
    if [path.name for path in outside.iterdir()] != ["kept"] or (outside / "kept").read_text() != KEPT:
        return f"wrote outside of the project: {sorted(outside.iterdir())}"
    if others := {path.name for path in folder.parent.iterdir()} - {"outside", folder.name}:
        return f"wrote beside the project: {others}"
    if list(folder.rglob("canary")):
        return "ran what a file holds"
    shown = {"stdout": outcome.out, "stderr": outcome.err}
    shown |= {str(path.relative_to(folder)): path.read_text(errors="replace") for path in _written(folder)}
    for name, text in shown.items():
        if any(mark in text for mark in ("\x1b", "\x07", "\u202e", "\u2066")) and not name.endswith(".html"):
            return f"codes for the terminal in {name}"
        if name.endswith(".html") and "<script" in text.lower():
            return f"markup of a file in {name}"
    return None


def _written(folder: Path) -> list[Path]:
    names = ("log.txt", "report/index.html")
    return [folder / "run" / name for name in names if (folder / "run" / name).is_file()]
