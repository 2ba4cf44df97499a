"""What a search costs besides its trials: ``python -m tests.benchmarks.scheduler local|ray TRIALS [SAMPLER]``.

The trials are a script that writes a result and ends. The search is run in this process, two trials at a time, and its
processor seconds are those of this process; for Ray also those of its daemons and actors, which are its descendants.
The processes of trials do not count.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

TRIAL = """
import os, sys
folder = sys.argv[-1].partition("=")[2]
os.makedirs(folder)
with open(folder + "/result.json", "w") as file:
    file.write('{"monitor": {"output": "", "metric": "loss", "value": 1.0}}')
"""


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process that lives."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Descendants:
    """Adds up the processor seconds of the processes below this one, also of those that end, except those of trials."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def total(self) -> float:
        """Processor seconds so far; stops looking."""
        self._over.set()
        self._thread.join()
        return sum(self._seconds.values())

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            for pid in descendants(os.getpid()):
                with contextlib.suppress(OSError, IndexError):
                    if b"trial.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                        self._seconds[pid] = processor_seconds(pid)


def main(engine: str, trials: int, sampler: str = "random") -> None:
    """Measure one search and print a line."""
    from eir_seq.commands import main as command
    from eir_seq.commands import search
    from eir_seq.commands.search import checks, engines
    from tests.config.project import make_project

    folder = Path(tempfile.mkdtemp(prefix="eir_seq_scheduler_"))
    make_project(folder)
    os.chdir(folder)
    (folder / "trial.py").write_text(TRIAL)
    measured: dict[str, float] = {}

    def job_command(words: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, "-I", "-S", str(folder / "trial.py"), *words, f"run.dir={run_dir}"]

    def wrapped(run: object) -> object:
        def measure(self: engines.Runner, study: object) -> object:
            before, begun = time.process_time(), time.monotonic()
            others = Descendants() if engine == "ray" else None
            code = run(self, study)  # type: ignore[operator]
            measured.update(own=time.process_time() - before, wall=time.monotonic() - begun)
            if others is not None:
                measured["others"] = others.total()
            return code

        return measure

    search.search.job_command = job_command  # type: ignore[attr-defined, assignment]
    search._build = lambda everything: None
    checks.preflight = lambda *_: ()  # type: ignore[attr-defined, assignment]
    kinds: list[type[engines.Runner]] = [engines.LocalRunner]
    words = [f"sweep.engine={engine}", "sweep.n_jobs=2"]
    if engine == "ray":
        from eir_seq.commands.search import ray_trials

        kinds = [ray_trials.RayRunner]
        words.append("sweep.ray.address=local")
    for kind in kinds:
        kind.run = wrapped(kind.run)  # type: ignore[method-assign, assignment]
    space = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "data.batch_size=8,16,32"]
    words += [f"sweep.trials={trials}", f"sweep.sampler={sampler}", "sweep.dir=s", *space]
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    code = command(["sweep", "experiment=mine", *words])
    sys.stdout = sys.__stdout__
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    line = (
        f"{engine} {sampler} {trials}: search {measured['own']:.1f} s, {1000 * measured['own'] / trials:.0f} ms a trial"
    )
    if engine == "ray":
        others = measured["others"]
        line += f"; daemons and actors {others:.1f} s, {1000 * others / trials:.0f} ms a trial"
    print(f"{line}; {measured['wall']:.0f} s in all; {peak} MB; exit code {code}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4])
