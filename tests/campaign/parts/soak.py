"""Runs of many epochs: nothing grows, and nothing is left over."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.campaign.case import Case, Started, start

TITLE = "20 epochs, with 0 and 2 loader processes"
WANTED = "memory and descriptors as after epoch 2; no process, no shared memory and no file besides run and cache left"
EPOCHS, WARM = 20, 2
TOLERANCE = 1.05
"""Of resident memory: in a run so small that pages of late imports and the allocator's holes are a few percent."""
MOMENTARY = 4
"""Files that are open for a moment (metrics, a checkpoint), and may or may not be seen."""
WORKERS = (0, 2)


def cases(seed: int, share: float) -> Sequence[Case]:
    """One run for each number of loader processes."""
    chosen = Random(seed).sample(WORKERS, max(1, round(len(WORKERS) * share)))
    return [Case(f"{workers} loader processes", partial(soaked, workers, seed)) for workers in chosen]


def soaked(workers: int, seed: int, folder: Path) -> str | None:
    """Train, and watch."""
    temporary = folder / "tmp"
    temporary.mkdir()
    _write_rows(folder / "rows.csv", Random(seed))
    model = "{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64}"
    words = [
        "experiment=imdb_longformer", "data=table", "data.train=rows.csv", "data.validation=0.2", "data.test=null",
        "+data.cache_dir=cache", "data.batch_size=8", f"data.num_workers={workers}", f"trainer.max_epochs={EPOCHS}",
        "inputs.review.model.model_type=bert", "~inputs.review.model.model_init_config",
        f"+inputs.review.model.model_init_config={model}", "inputs.review.tokenizer.min_freq=1", "run.dir=run",
        "trainer.accelerator=cpu",
    ]  # fmt: skip
    before = set(folder.iterdir())
    started = start(words, folder, partial(os.environ.update, TMPDIR=str(temporary), HOME=str(temporary)))
    watch = Watch(started, folder / "run/metrics.csv")
    watch.follow()
    outcome = started.wait(180)
    return outcome.fault([0]) or watch.grown() or _left(folder, before, temporary, watch.processes)


@dataclass
class Watch:
    """What a run holds while it is in each epoch: peak bytes of its processes together, and open descriptors."""

    started: Started
    metrics: Path
    memory: dict[int, int] = field(default_factory=dict)
    descriptors: dict[int, int] = field(default_factory=dict)
    processes: set[int] = field(default_factory=set)

    def follow(self, seconds: float = 180.0) -> None:
        """Look every few milliseconds until the last epoch is done or the command has ended."""
        end = time.monotonic() + seconds
        while (epoch := _epoch(self.metrics)) < EPOCHS and time.monotonic() < end:
            found = _family(self.started.process)
            if not found or _ended(self.started.process):
                return
            self.processes |= found
            self.memory[epoch] = max(self.memory.get(epoch, 0), sum(map(_resident, found)))
            self.descriptors[epoch] = max(self.descriptors.get(epoch, 0), sum(map(_descriptors, found)))
            time.sleep(0.005)

    def grown(self) -> str | None:
        """What is more in the later epochs than in the first ones."""
        for name, values in (("bytes", self.memory), ("descriptors", self.descriptors)):
            early = max((value for epoch, value in values.items() if epoch <= WARM), default=0)
            late = {epoch: value for epoch, value in values.items() if epoch > WARM}
            if not early or len(late) < (EPOCHS - WARM) // 2:
                return f"{name} were seen in epochs {sorted(values)} only"
            bound = TOLERANCE * early if values is self.memory else early + MOMENTARY
            if max(late.values()) > bound:
                return f"{name} grew from {early:,} to {max(late.values()):,}: {values}"
        return None


def _left(folder: Path, before: Iterable[Path], temporary: Path, processes: Iterable[int]) -> str | None:
    """What is there after the end that should not be."""
    if extra := set(folder.iterdir()) - set(before) - {folder / "run", folder / "cache"}:
        return f"left {extra}"
    if extra := {path for path in temporary.rglob("*") if path.is_file()}:
        return f"left {extra} in the folder for temporary files and the home"
    if extra := {path for path in folder.rglob("*") if ".partial-" in path.name or path.suffix == ".tmp"}:
        return f"left {extra}"
    if alive := [number for number in processes if Path(f"/proc/{number}").exists()]:
        return f"processes {alive} live on"
    shared = {path for path in Path("/dev/shm").iterdir() if any(f"_{number}_" in path.name for number in processes)}
    return f"left {shared}" if shared else None


def _write_rows(path: Path, draw: Random) -> None:
    words = ["fine", "dull", "plot", "cast", "score", "scene", "long", "short", "warm", "cold"]
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 200))) for _ in range(160)]
    rows = [f"{text},{'positive' if text.count('warm') > text.count('cold') else 'negative'}" for text in texts]
    path.write_text("\n".join(["text,sentiment", *rows, "warm,positive", "cold,negative"]) + "\n")


def _epoch(metrics: Path) -> int:
    """The epochs whose evaluation is noted."""
    try:
        lines = [line.split(",") for line in metrics.read_text().splitlines()]
    except OSError:
        return 0
    return max((int(line[0]) for line in lines[1:] if len(line) > 2 and line[2] == "validation"), default=0)


def _family(process: int) -> set[int]:
    """A process and its children."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        return {process, *(int(child) for thread in threads for child in (thread / "children").read_text().split())}
    except OSError:
        return set()


def _ended(process: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _descriptors(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0
