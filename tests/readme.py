"""What the documents show in blocks: the commands among it can be run, so that none of them is wrong."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import warm

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "tutorials").rglob("*.md")))
"""All documents for users."""

FAST = ("trainer=try", "data.limit=96", "trainer.threads=1")
"""What makes any experiment short."""
TIMEOUT = 1200
"""Seconds for a command; a training of two minutes takes long on a machine with other work."""


@dataclass(frozen=True)
class Command:
    """A command line, and the exit code that the README says it has."""

    words: tuple[str, ...]
    exit_code: int = 0

    @property
    def trains(self) -> bool:
        return "-m" in self.words[3:] or self.words[3].startswith(("experiment=", "sweep"))


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: its language, and the line that it begins in."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of a document, of some languages or of all."""
    text = document.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(.*)\n((?:.*\n)*?) *```$", text, re.MULTILINE):
        language = match[2].strip()
        if not languages or language in languages:
            line = text.count("\n", 0, match.start()) + 1
            yield Block(document, line, language, textwrap.dedent(match[3]))


def named_files(document: Path) -> dict[str, str]:
    """Python blocks of a document that begin with the name of a file, such as ``# my_project/plugins.py``."""
    named = ((re.match(r"# (\w+/\w+\.py)\n", block.text), block.text) for block in blocks(document, "python"))
    return {match[1]: text for match, text in named if match is not None}


def write_named_files(document: Path, folder: Path) -> None:
    """Write them below `folder`."""
    for name, text in named_files(document).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def command_lines(block: Block) -> Iterator[str]:
    """The lines of a ``bash`` block, and those of a ``console`` block behind ``$``; a backslash continues a line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "bash" and line.strip():
            yield line
        elif line.startswith("$ "):
            yield line[2:]


def commands(readme: Path) -> Iterator[Command]:
    """Every command that starts with ``python``."""
    for block in blocks(readme, "bash", "console"):
        for line in command_lines(block):
            if line.startswith("python "):
                code = re.search(r"# exit code (\d+)", line)
                words = shlex.split(line.split(" > ")[0], comments=True)
                yield Command(tuple(words), int(code[1]) if code else 0)


def run(
    command: Command, folder: Path, fast: Sequence[str] = FAST, *, drawings: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`, training shortened; fails unless it ends with the code it should."""
    words = [sys.executable, *command.words[1:]]
    if command.words[1:3] == ("-m", "eir_seq") and command.trains and command.exit_code == 0:
        words += fast
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache"), "OMP_NUM_THREADS": "1"}
    if words[1] == "-m":
        done = warm.run(words[1:], cwd=folder, environment=environment, timeout=TIMEOUT, drawings=drawings)
    else:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == command.exit_code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def run_all(readme: Path, folder: Path, fast: Sequence[str] = FAST, *, drawings: bool = True) -> dict[str, str]:
    """Run all commands of a README in order; gives what each printed."""
    printed = {}
    for command in commands(readme):
        done = run(command, folder, fast, drawings=drawings)
        printed[" ".join(command.words)] = done.stdout + done.stderr
    return printed
