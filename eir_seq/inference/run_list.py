"""The runs below a folder: how each ended, what it reached, and what it takes on the disk."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.remote import by_url, is_url, outlined
from eir_seq.training.checksums import wrong_files
from eir_seq.training.folder import CONFIG, MANIFEST, METRICS, REPORT, RESULT, owner_of, read_config
from eir_seq.training.metrics_file import Measurement, read_metrics

Status = Literal["finished", "running", "stopped", "failed", "damaged"]

_PARTS = frozenset(("bundle", "checkpoints", "predictions", "report", "samples", "latents", "wandb", "tensorboard"))
"""Folders of a run, which hold no runs."""
_READ = (".yaml", ".json", ".csv", ".sha256")
"""Suffixes of what runs and sweeps say of themselves."""


@dataclass(frozen=True)
class Headline:
    """What a run was trained for: runs with the same headline can be compared.

    Attributes:
        metric: the monitored metric, ``output.metric`` or ``loss``.
        task: types of the outputs that it measures.
    """

    metric: str
    task: str


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder describes it.

    Attributes:
        folder: of the run.
        name: the folder, relative to where it was looked for.
        experiment: its name.
        status: how it ended; `damaged` if its files cannot be read.
        reason: why it has no result, in its own words.
        metric: the monitored metric.
        value: the best value of it so far.
        steps: optimizer steps done.
        started: when the first session began, in ISO format with its time zone.
        config: what config.yaml holds.
        manifest: what manifest.json holds.
        result: what result.json holds, of a finished run.
    """

    folder: Path
    name: str
    experiment: str
    status: Status
    reason: str
    metric: str
    value: float | None
    steps: int | None
    started: str
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The processes that worked on it, as the manifest describes them."""
        found = self.manifest.get("sessions")
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    @property
    def seconds(self) -> float | None:
        """The time of all sessions that noted their end."""
        times = [(item.get("started"), item.get("ended")) for item in self.sessions]
        known = [(_time(start), _time(end)) for start, end in times if start and end]
        spans = [(end - start).total_seconds() for start, end in known if start and end]
        return sum(spans) if spans else None

    @property
    def report(self) -> Path | None:
        """The page of its report, if there is one."""
        path = self.folder / REPORT
        return path if path.is_file() else None


@contextmanager
def runs_at(place: str, named: str | None = None) -> Iterator[Path]:
    """A folder with runs in or below it; of one by URL, while it is looked at, a copy of what runs say of themselves.

    Args:
        place: the path or URL.
        named: what names it in messages; `place` itself if absent.

    Raises:
        UserError: there is no folder at the URL.
    """
    if not is_url(place):
        yield Path(place).expanduser()
        return
    with outlined(place, named or "", lambda name: name.endswith(_READ) and not _PARTS & {*_folders(name)}) as folder:
        yield folder


def run_folders(folder: Path) -> Iterator[Path]:
    """Run folders in and below a folder, in counting order: those with config.yaml and manifest.json."""
    if not folder.is_dir():
        raise UserError(Fault(str(folder), "no such folder"))
    found = []
    for place, folders, files in os.walk(folder):
        is_run = CONFIG in files and MANIFEST in files and Path(place).name != "bundle"
        folders[:] = [name for name in folders if not name.startswith(".") and not (is_run and name in _PARTS)]
        if is_run:
            found.append(Path(place))
    yield from sorted(found, key=_in_counting_order)


def find_runs(folder: Path) -> list[FoundRun]:
    """All runs in and below a folder; one whose files are damaged is among them.

    Raises:
        UserError: no such folder.
    """
    return [read_run(path, _name(path, folder)) for path in run_folders(folder)]


def read_run(folder: Path, name: str | None = None, *, mine: bool = False) -> FoundRun:
    """One run; `name` is what it is called, by default the name of its folder. `mine`: this process owns it."""
    name = name or folder.resolve().name
    try:
        config, manifest = read_config(folder / CONFIG), _json_object(folder / MANIFEST)
        result = _json_object(folder / RESULT) if (folder / RESULT).exists() else {}
        wrong = [f"{file} is {what}" for file, what in wrong_files(folder, (CONFIG, MANIFEST, RESULT))]
    except (OSError, ValueError, RecursionError) as error:  # a UserError is a ValueError
        return FoundRun(folder, name, name, "damaged", " ".join(str(error).split()), "", None, None, "", {}, {}, {})
    status, reason = status_of(folder, manifest, finished=bool(result), mine=mine)
    if status == "finished" and (wrong or not result):
        status, reason = "damaged", "; ".join(wrong) or f"{RESULT} is missing"
    headline, mode = headline_of(config, result.get("monitor") or {})
    value, steps = _number((result.get("monitor") or {}).get("value")), result.get("steps")
    if not result:
        value, steps = _progress(folder, headline, mode)
    sessions = manifest.get("sessions")
    started = sessions[0].get("started") if isinstance(sessions, list) and sessions else ""
    experiment = str(manifest.get("name") or config.get("name") or name)
    return FoundRun(
        folder, name, experiment, status, reason, headline.metric, value,
        steps if isinstance(steps, int) else None, str(started or ""), config, manifest, result,
    )  # fmt: skip


def _json_object(path: Path) -> dict[str, Any]:
    """The mapping in a file of a run; raises `ValueError` if it holds none."""
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return content


def status_of(folder: Path, manifest: Mapping[str, Any], *, finished: bool, mine: bool) -> tuple[Status, str]:
    """How a run ended and, of one without a result, why."""
    owner = None if mine else owner_of(folder)  # looking at a lock of our own would release it
    if owner is not None:
        return "running", owner
    ending = str(manifest.get("status") or "running")
    if finished or ending == "finished":
        return "finished", ""
    if ending == "running":
        sessions = manifest.get("sessions")
        host = sessions[-1].get("host") if isinstance(sessions, list) and sessions else None
        if host not in (None, socket.gethostname()) or by_url(str(folder)) != str(folder):
            return "running", f"on {host}, or killed there"
        return "stopped", "killed"
    return ("stopped" if ending.startswith("stopped") else "failed"), ending


def headline_of(config: Mapping[str, Any], monitored: Mapping[str, Any]) -> tuple[Headline, str]:
    """What a run monitors, by its result or else by its config, and whether ``min`` or ``max`` is best."""
    monitor = monitored or (config.get("trainer") or {}).get("monitor") or {}
    metric = str(monitor.get("metric") or "loss")
    mode = str(monitor.get("mode") or ("min" if metric == "loss" else "max"))
    outputs = config.get("outputs") or {}
    output = monitor.get("output")
    if output is None and len(outputs) == 1 and metric not in ("loss", AVERAGE):
        output = next(iter(outputs))
    measured = [output] if output else sorted(outputs)
    task = " ".join(f"{name}:{(outputs.get(name) or {}).get('type')}" for name in measured)
    return Headline(f"{output}.{metric}" if output else metric, task), mode


def evaluations(folder: Path, headline: Headline, split: str = "validation") -> list[Measurement]:
    """The values of the monitored metric in metrics.csv; none where it cannot be read."""
    try:
        measured = read_metrics(folder / METRICS)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
    return [m for m in measured if m.split == split and full_name(m) == headline.metric]


def full_name(measurement: Measurement) -> str:
    """``output.metric``, or the metric alone of what belongs to the whole run."""
    return ".".join(filter(None, (measurement.output, measurement.metric)))


def _progress(folder: Path, headline: Headline, mode: str) -> tuple[float | None, int | None]:
    """The best monitored value and the last step in metrics.csv."""
    try:
        measured = read_metrics(folder / METRICS)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None, None
    values = [m.value for m in measured if m.split == "validation" and full_name(m) == headline.metric]
    best = None if not values else min(values) if mode == "min" else max(values)
    return best, max((m.step for m in measured), default=None)


# ------------------------------------------------------------------------------------------------------------- sizes


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of a run by its parts, the largest first; a file with several names counts once."""
    found: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder):
        relative = Path(place).relative_to(folder).parts
        if not relative:  # the bundle first: checkpoints may share its weights
            folders.sort(key=lambda name: name != "bundle")
        for name in files:
            part = relative[0] if relative else name
            try:
                status = os.lstat(os.path.join(place, name))
            except OSError:  # gone meanwhile
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                found[part] = found.get(part, 0) + status.st_size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def size(folder: Path) -> int:
    """Bytes of a folder; a file with several names counts once."""
    return sum(sizes(folder).values())


# ----------------------------------------------------------------------------------------------------------- helpers


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path != folder else path.resolve().name


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[:-1]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _in_counting_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]
