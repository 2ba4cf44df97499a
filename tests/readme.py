"""Runs the commands that a README shows, so that none of them is wrong."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FAST = ("trainer=try", "data.limit=96", "trainer.threads=1")
"""What makes any experiment short."""


@dataclass(frozen=True)
class Command:
    """A command line, and the exit code that the README says it has."""

    words: tuple[str, ...]
    exit_code: int = 0

    @property
    def trains(self) -> bool:
        return "-m" in self.words[3:] or self.words[3].startswith("experiment=")


def commands(readme: Path) -> Iterator[Command]:
    """Every line of a ``bash`` block that starts with ``python``; a backslash continues it."""
    for block in re.findall(r"```bash\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python "):
                code = re.search(r"# exit code (\d+)", line)
                yield Command(tuple(shlex.split(line, comments=True)), int(code[1]) if code else 0)


def run(command: Command, folder: Path, fast: Sequence[str] = FAST) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`, training shortened; fails unless it ends with the code it should."""
    words = [sys.executable, *command.words[1:]]
    if command.words[1:3] == ("-m", "eir_seq") and command.trains and command.exit_code == 0:
        words += fast
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == command.exit_code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def run_all(readme: Path, folder: Path, fast: Sequence[str] = FAST) -> dict[str, str]:
    """Run all commands of a README in order; gives what each printed."""
    printed = {}
    for command in commands(readme):
        done = run(command, folder, fast)
        printed[" ".join(command.words)] = done.stdout + done.stderr
    return printed
