"""``python -m tests.campaign``: inject faults, and print a table of what was tried, right and wrong.

    python -m tests.campaign --seed 0                 # all parts, about an hour on 2 cores
    python -m tests.campaign --parts disk,damaged     # some of them
    python -m tests.campaign --share 0.05             # a sample
    python -m tests.campaign --write docs/reliability.md

The exit code is 1 if anything went wrong. Wrong cases are printed with their names; ``--only NAME`` runs one again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from tests.campaign import parts as parts_package
from tests.campaign.case import Case, Part

MARKS = ("<!-- campaign -->", "<!-- /campaign -->")


@dataclass
class Line:
    """One line of the table."""

    part: str
    tried: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def names() -> list[str]:
    """The parts that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(parts_package.__path__))


def load(name: str) -> Part:
    return cast(Part, importlib.import_module(f"tests.campaign.parts.{name}"))


def run_case(case: Case, keep: Path | None = None) -> str | None:
    """What went wrong with one case, or nothing."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        (folder / "case").mkdir()
        wrong = case.run(folder / "case")
    except Exception:
        wrong = "the case itself failed: " + traceback.format_exc(limit=-3)
    if wrong and keep is not None:
        with contextlib.suppress(shutil.Error):  # sockets, which cannot be copied
            shutil.copytree(folder, keep / case.name.replace("/", "_"), symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return wrong


def run_part(name: str, seed: int, share: float, only: str | None, keep: Path | None) -> Line:
    """All cases of a part, one after the other."""
    line = Line(name)
    start = time.monotonic()
    for case in load(name).cases(seed, share):
        if only is not None and only not in case.name:
            continue
        line.tried += 1
        wrong = run_case(case, keep)
        if wrong:
            line.wrong[case.name] = wrong
            print(f"wrong: {name}: {case.name}: {wrong}", flush=True)
    line.seconds = time.monotonic() - start
    return line


def table(lines: list[Line], seed: int) -> str:
    """The lines as a table of Markdown."""
    rows = ["| what is tried | what is right | tried | right | wrong | minutes |", "|---|---|--:|--:|--:|--:|"]
    for line in lines:
        part, wrong = load(line.part), len(line.wrong)
        counts = f"{line.tried} | {line.tried - wrong} | {wrong} | {line.seconds / 60:.1f}"
        rows.append(f"| {part.TITLE} | {part.WANTED} | {counts} |")
    return "\n".join([*rows, "", f"Seed {seed}."])


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default=",".join(names()), help="comma-separated; default: %(default)s")
    parser.add_argument("--share", type=float, default=1.0, help="the share of cases to run")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--keep", type=Path, help="copy the folders of wrong cases here")
    parser.add_argument("--results", type=Path, help="a JSON file that keeps the lines of parts run before")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background, by commands as well
    lines = {}
    if options.results and options.results.exists():
        lines = {line["part"]: Line(**line) for line in json.loads(options.results.read_text())}
    for name in options.parts.split(","):
        lines[name] = run_part(name, options.seed, options.share, options.only, options.keep)
        print(f"{name}: {lines[name].tried} tried, {len(lines[name].wrong)} wrong", flush=True)
        if options.results:
            options.results.write_text(json.dumps([asdict(line) for line in lines.values()], indent=1))
    text = table([lines[name] for name in sorted(lines)], options.seed)
    print(text)
    if options.write:
        page = options.write.read_text()
        before, _, rest = page.partition(MARKS[0])
        options.write.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
    return int(any(line.wrong for line in lines.values()))


if __name__ == "__main__":
    sys.exit(main())
