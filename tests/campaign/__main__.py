"""``python -m tests.campaign``: inject faults, and print a table of what was tried, right and wrong.

    python -m tests.campaign --seed 0 --jobs 2        # all parts, which takes several hours
    python -m tests.campaign --hour --jobs 2          # as much of them as an hour allows
    python -m tests.campaign --parts disk,damaged     # some of them
    python -m tests.campaign --share 0.05             # a sample
    python -m tests.campaign --results results        # keeps what each case gave, so that a later call
    python -m tests.campaign --results results --resume --write docs/reliability.md  # runs the others

The exit code is 1 if anything went wrong. Wrong cases are printed with their names; ``--only NAME`` runs one again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import pkgutil
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from tests.campaign import parts as parts_package
from tests.campaign.case import Case, Part

PAUSE = 20.0
"""Seconds between lines that tell how far a part is."""
SAMPLE: dict[str, float] = {
    "cache": 0.01, "damaged": 0.002, "disk": 0.01, "hostile": 0.004, "kills": 0.0015, "limits": 0.03, "numbers": 0.01,
    "options": 0.1, "ranks": 0.002, "signals": 0.01, "soak": 0.5, "sweeps": 0.01,
}  # fmt: skip
"""The share of each part's cases that the fast tests run."""
HOUR = {**dict.fromkeys(SAMPLE, 1.0), "kills": 0.4, "ranks": 0.25, "sweeps": 0.25}
"""The share of each part's cases that take about an hour together, on two cores without other work."""
MARKS = ("<!-- campaign -->", "<!-- /campaign -->")


@dataclass
class Line:
    """One line of the table: what the cases of a part gave."""

    part: str
    right: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cases: int = 0
    """All that there are, of which a stopped part has tried some."""
    day: str = ""

    @property
    def tried(self) -> int:
        return len(self.right) + len(self.wrong)

    def note(self, case: str, wrong: str | None) -> None:
        """Keep what a case gave, in place of what it gave before."""
        self.right = [name for name in self.right if name != case]
        self.wrong.pop(case, None)
        if wrong:
            self.wrong[case] = wrong
        else:
            self.right.append(case)

    def left(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that are not known to be right; results of cases that there are no longer are dropped.

        Operations of a run are numbered, and one more of them renames those after it: numbers do not count.
        """
        right = Counter(map(_unnumbered, self.right))
        known: list[Case] = []
        found: list[Case] = []
        for case in cases:
            name = _unnumbered(case.name)
            (known if right[name] > 0 else found).append(case)
            right[name] -= 1
        self.right, self.wrong = [case.name for case in known], {}
        return found

    def save(self, results: Path) -> None:
        results.mkdir(parents=True, exist_ok=True)
        path = results / f"{self.part}.json"
        path.with_suffix(".new").write_text(json.dumps(asdict(self), indent=1))
        path.with_suffix(".new").replace(path)

    @classmethod
    def saved(cls, part: str, results: Path) -> Line:
        """The line that was saved, or an empty one."""
        path = results / f"{part}.json"
        return cls(**json.loads(path.read_text())) if path.is_file() else cls(part)


def _unnumbered(name: str) -> str:
    return re.sub(r": \d+ ", ": ", name, count=1)


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


def run_part(name: str, options: argparse.Namespace) -> Line:
    """The cases of a part, one after the other; what each gave is saved at once."""
    kept = Line.saved(name, options.results)
    line = kept if options.only or options.resume else Line(name)
    start = said = time.monotonic()
    before = line.seconds
    share = HOUR[name] if options.hour else options.share
    if options.sample:
        share = min(1.0, SAMPLE[name] * options.sample)
    cases = list(load(name).cases(options.seed, share))
    line.cases, line.day = len(cases), datetime.date.today().isoformat()
    cases = [case for case in cases if (options.only or "") in case.name]
    if options.resume and not options.only:
        cases = line.left(cases)
    random.Random(options.seed).shuffle(cases)  # a part that is stopped has tried some of every kind
    for number, case in enumerate(cases, 1):
        wrong = run_case(case, options.keep)
        line.note(case.name, wrong)
        line.seconds = before + time.monotonic() - start
        line.save(options.results)
        if wrong:
            print(f"wrong: {name}: {case.name}: {wrong}", flush=True)
        if time.monotonic() - said > PAUSE or number == len(cases):
            said = time.monotonic()
            print(f"{name}: {number} of {len(cases)} done, {len(line.wrong)} wrong", flush=True)
    return line


def run_parts(parts: list[str], options: argparse.Namespace) -> None:
    """Each part in a process of its own, so many at a time."""
    words = ["--seed", str(options.seed), "--share", str(options.share), "--results", str(options.results)]
    words += ["--only", options.only] if options.only else []
    words += ["--keep", str(options.keep)] if options.keep else []
    words += ["--resume"] if options.resume else []
    words += ["--sample", str(options.sample)] if options.sample else ["--hour"] if options.hour else []

    def run(part: str) -> None:
        subprocess.run([sys.executable, "-m", "tests.campaign", "--parts", part, "--quiet", *words])

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, parts))


def table(lines: list[Line], seed: int) -> str:
    """The lines as a table of Markdown."""
    rows = [
        "| what is tried | what is right | tried | right | wrong | minutes | day |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for line in lines:
        part = load(line.part)
        tried = str(line.tried) if line.tried >= line.cases else f"{line.tried} of {line.cases}"
        counts = f"{tried} | {len(line.right)} | {len(line.wrong)} | {line.seconds / 60:.1f} | {line.day}"
        rows.append(f"| {part.TITLE} | {part.WANTED} | {counts} |")
    return "\n".join([*rows, "", f"Seed {seed}."])


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default=",".join(names()), help="comma-separated; default: %(default)s")
    parser.add_argument("--share", type=float, default=1.0, help="the share of cases to run")
    parser.add_argument(
        "--sample",
        type=float,
        nargs="?",
        const=1.0,
        help="the few cases that the fast tests run, so many times",
    )
    parser.add_argument("--hour", action="store_true", help="as many cases as take about an hour on 2 cores")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--keep", type=Path, help="copy the folders of wrong cases here")
    parser.add_argument("--results", type=Path, help="a folder that keeps what each case gave")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    parser.add_argument("--resume", action="store_true", help="leave out what the results say is right")
    parser.add_argument("--jobs", type=int, default=1, help="parts to run at the same time")
    parser.add_argument("--quiet", action="store_true", help="print no table")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background, by commands as well
    with contextlib.ExitStack() as stack:
        if options.results is None:
            options.results = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-results-")))
        return run(options)


def run(options: argparse.Namespace) -> int:
    """Run the parts and show what they gave."""
    parts = options.parts.split(",") if options.parts else []
    if options.jobs == 1:
        for part in parts:
            run_part(part, options)
    else:
        run_parts(parts, options)
    lines = [Line.saved(part, options.results) for part in (parts if options.quiet else names())]
    lines = [line for line in lines if line.tried]
    if options.quiet:
        return int(any(line.wrong for line in lines))
    text = table(lines, options.seed)
    print(text)
    if options.write:
        page = options.write.read_text()
        before, _, rest = page.partition(MARKS[0])
        options.write.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
    return int(any(line.wrong for line in lines))


if __name__ == "__main__":
    sys.exit(main())
