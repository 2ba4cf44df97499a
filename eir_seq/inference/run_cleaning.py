"""What can be removed of runs: old checkpoints of finished ones, caches, and what killed processes left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eir_seq.inference.jobs import JOBS, read_jobs
from eir_seq.inference.run_list import FoundRun, read_run
from eir_seq.training.checkpoints import remove_folder
from eir_seq.training.folder import CACHE, taken

LEFT_BEHIND = (".partial-*", ".*.partial", ".probe-*")
"""What a process that was killed while it wrote leaves in a run folder."""


@dataclass(frozen=True)
class Removable:
    """Something in a run folder that nothing needs any more.

    Attributes:
        run: the run.
        path: what can be removed.
        kind: what it is, in words.
        size: bytes that removing it frees.
    """

    run: FoundRun
    path: Path
    kind: str
    size: int


def removable(run: FoundRun, ended: frozenset[Path] = frozenset(), *, last: bool = False) -> list[Removable]:
    """What can be removed of a run that nothing works on: a running or a damaged one is left alone.

    Args:
        run: the run.
        ended: run folders of trials that were pruned or took too long, which never continue.
        last: the optimizer state of a finished run as well, without which no more steps can be added.
    """
    if run.status in ("running", "damaged"):
        return []
    found = [(path, "left by a killed process") for pattern in LEFT_BEHIND for path in run.folder.rglob(pattern)]
    if (run.folder / CACHE).is_dir():
        found.append((run.folder / CACHE, "cache"))
    checkpoints = sorted((run.folder / "checkpoints").glob("step-*"), reverse=True)
    if run.status == "finished":
        kept = checkpoints[:1] if (run.config.get("trainer") or {}).get("keep_optimizer_state") and not last else []
        found += [(path, "checkpoint") for path in checkpoints if path not in kept]
        best = run.folder / "checkpoints" / f"best-{run.result.get('best_step') or 0:08d}"
        found += [
            (path, "outdated best weights") for path in (run.folder / "checkpoints").glob("best-*") if path != best
        ]
    elif run.folder.resolve() in ended:
        found += [(path, "checkpoint of a trial that was stopped") for path in checkpoints]
    return [Removable(run, path, kind, _freed(path)) for path, kind in found if not path.is_symlink()]


def ended_trials(folder: Path) -> frozenset[Path]:
    """Run folders of trials below a folder that were pruned or took too long."""
    found = set()
    for place, folders, _ in os.walk(folder):
        if JOBS in folders:
            found |= {
                (Path(place) / str(job.number)).resolve()
                for job in read_jobs(Path(place))
                if job.status in ("pruned", "timeout")
            }
        folders[:] = [name for name in folders if not name.startswith(".")]
    return frozenset(found)


def _freed(path: Path) -> int:
    """Bytes that removing a file or folder frees: not those of files that have another name elsewhere."""
    files: Sequence[Path] = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(status.st_size for status in (item.lstat() for item in files) if status.st_nlink == 1)


def remove(found: Sequence[Removable], ended: frozenset[Path] = frozenset(), *, last: bool = False) -> list[Removable]:
    """Remove what is still removable once its run folder is ours; gives what was removed.

    Args:
        found: of one run.
        ended: as in `removable`.
        last: as in `removable`.

    Raises:
        OSError: it cannot be removed.
    """
    if not found:
        return []
    run = found[0].run
    try:
        with taken(run.folder):
            # A run may have begun and ended since; while the folder is ours, none does.
            now = read_run(run.folder, run.name, mine=True)
            still = {item.path for item in removable(now, ended, last=last)}
            gone = [item for item in found if item.path in still]
            for item in gone:
                if item.path.is_dir():
                    remove_folder(item.path)
                else:
                    item.path.unlink(missing_ok=True)
            return gone
    except BlockingIOError:  # a run has begun in it
        return []
