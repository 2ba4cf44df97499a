"""Runs side by side: those that differ in their seed only make one row, with mean and deviation over the seeds."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eir_seq.errors import Fault, UserError
from eir_seq.inference.jobs import JOBS, read_jobs

APART_FROM_SETTINGS = ("seed", "run.", "note", "tracker.", "data.num_workers", "data.cache_dir")
"""Config keys in which runs of one row may differ."""

Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """One run: its config as ``a.b.c: value``, and its metrics as ``split.output.metric: value`` if it is finished."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float] | None
    monitored: str | None
    status: str


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed only."""

    settings: Setting
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have metrics."""
        return tuple(run for run in self.runs if run.metrics is not None)

    def values(self, metric: str) -> list[float]:
        """The values of a metric, one per finished run that has it."""
        return [run.metrics[metric] for run in self.runs if run.metrics is not None and metric in run.metrics]


@dataclass(frozen=True)
class Comparison:
    """The runs of a folder by setting; `problems` are runs and jobs without a result and what became of them."""

    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    shown: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[tuple[str, str], ...] = field(default=())

    def header(self) -> list[str]:
        """Column names of `cells`."""
        return [*self.settings, "runs", *self.shown]

    def cells(self, row: Row) -> list[str]:
        """One row for people: settings, finished runs of all, mean and deviation of the shown metrics."""
        settings = dict(row.settings)
        count = str(len(row.finished)) if len(row.finished) == len(row.runs) else f"{len(row.finished)}/{len(row.runs)}"
        return [
            *(_text(settings.get(key)) for key in self.settings),
            count,
            *(mean_and_deviation(row.values(metric)) for metric in self.shown),
        ]

    def write(self, folder: Path) -> None:
        """Write compare.csv (all metrics) and compare.md (the shown ones).

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            with (folder / "compare.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                names = [f"{metric}_{what}" for metric in self.metrics for what in ("mean", "deviation")]
                writer.writerow([*self.settings, "runs", "finished", "seeds", *names])
                writer.writerows(self._csv_row(row) for row in self.rows)
            (folder / "compare.md").write_text(self._markdown(), encoding="utf-8")
        except OSError as error:
            raise UserError(Fault(str(folder), f"cannot be written: {error.strerror}")) from None

    def _csv_row(self, row: Row) -> list[str]:
        settings = dict(row.settings)
        numbers: list[str] = []
        for metric in self.metrics:
            values = row.values(metric)
            numbers.append(repr(statistics.fmean(values)) if values else "")
            numbers.append(repr(statistics.stdev(values)) if len(values) > 1 else "")
        seeds = " ".join(str(run.config.get("seed", "")) for run in row.finished)
        counts = [str(len(row.runs)), str(len(row.finished)), seeds]
        return [*(_text(settings.get(key)) for key in self.settings), *counts, *numbers]

    def _markdown(self) -> str:
        lines = [_markdown_line(self.header()), _markdown_line(["---"] * len(self.header()))]
        lines += [_markdown_line(self.cells(row)) for row in self.rows]
        if self.problems:
            lines += ["", "Without a result:", ""]
            lines += [f"- {name}: {status}" for name, status in self.problems]
        return "\n".join(lines) + "\n"


def compare(folder: Path) -> Comparison:
    """Read all runs below a folder.

    Raises:
        UserError: no such folder, or no run and no job in it.
    """
    if not folder.is_dir():
        raise UserError(Fault(str(folder), "no such folder"))
    runs = list(_read_runs(folder))
    problems = tuple(_problems(folder, runs))
    if not runs and not problems:
        raise UserError(Fault(str(folder), "holds no runs (folders with config.yaml and manifest.json)"))
    keys = sorted({key for run in runs for key in run.config})
    varying = tuple(
        key
        for key in keys
        if not key.startswith(APART_FROM_SETTINGS)
        and len({json.dumps(run.config.get(key), sort_keys=True) for run in runs}) > 1
    )
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(json.dumps([run.config.get(key) for key in varying]), []).append(run)
    rows = [Row(tuple((key, group[0].config.get(key)) for key in varying), tuple(group)) for group in grouped.values()]
    metrics = tuple(dict.fromkeys(name for run in runs for name in run.metrics or ()))
    shown = _shown(runs, metrics)
    if shown:
        rows.sort(key=lambda row: -statistics.fmean(row.values(shown[0]) or [float("-inf")]))
    return Comparison(varying, metrics, shown, tuple(rows), problems)


def mean_and_deviation(values: Sequence[float]) -> str:
    """``0.8123 ± 0.0045``: mean and sample deviation; the mean alone for one value."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _read_runs(folder: Path) -> Iterator[Run]:
    for path in sorted(folder.rglob("config.yaml"), key=_in_counting_order):
        run_dir = path.parent
        if run_dir.name == "bundle" or not (run_dir / "manifest.json").is_file():
            continue
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(Fault(str(run_dir), f"is no readable run: {' '.join(str(error).split())}")) from None
        name = str(run_dir.relative_to(folder)) if run_dir != folder else run_dir.name
        result = _read_result(run_dir)
        if result is None:
            status = str(manifest.get("status", "unknown"))
            status = "running, or killed" if status == "running" else status
            yield Run(name, dict(_flat(config)), None, None, status)
            continue
        monitor = result.get("monitor") or {}
        output = monitor.get("output")
        monitored = f"validation.{output}.{monitor.get('metric')}" if output else "validation.loss"
        yield Run(name, dict(_flat(config)), _metrics(result), monitored, "finished")


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    found = {
        f"{split}.{output}.{metric}": float(value)
        for split in ("validation", "test")
        for output, metrics in (result.get(split) or {}).items()
        for metric, value in metrics.items()
    }
    losses = result.get("loss") or {}
    return found | {f"{split}.loss": float(value) for split, value in losses.items()}


def _shown(runs: Sequence[Run], metrics: Sequence[str]) -> tuple[str, ...]:
    """The monitored metrics, on the validation and the test rows."""
    monitored = [run.monitored for run in runs if run.monitored is not None]
    wanted = [name for each in monitored for name in (each, each.replace("validation.", "test.", 1))]
    return tuple(dict.fromkeys(name for name in wanted if name in metrics))


def _problems(folder: Path, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """Jobs that failed, then runs that are not finished and belong to no such job."""
    finished = {run.name for run in runs if run.metrics is not None}
    told = set()
    for jobs_folder in sorted(path.parent for path in folder.rglob(JOBS) if path.is_dir()):
        for job in read_jobs(jobs_folder):
            name = str((jobs_folder / str(job.number)).relative_to(folder))
            if job.status != "done" and name not in finished:
                told.add(name)
                words = " ".join(word.lstrip("+") for word in job.overrides)
                yield f"{name} ({words})", f"{job.status}{f': {job.message}' if job.message else ''}"
    for run in runs:
        if run.metrics is None and run.name not in told:
            yield run.name, run.status


def _read_result(run_dir: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _in_counting_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
