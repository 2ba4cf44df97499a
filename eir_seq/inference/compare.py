"""Runs side by side: those that differ in their seed or fold only make one row, with mean and standard deviation."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import read_json
from eir_seq.inference.jobs import JOBS, read_jobs
from eir_seq.machine import cannot_write
from eir_seq.training.checksums import CHECKSUMS, wrong_files
from eir_seq.training.folder import read_config

REPETITIONS = ("seed", "data.split_seed", "data.fold")
"""Config keys whose values repeat a run rather than change what it does."""
APART_FROM_SETTINGS = ("note", "run.", "tracker.", "trainer.threads", "cache.", "data.num_workers", "data.cache_dir")
"""Config keys in which runs of one row may differ as well; a dot at the end stands for the whole section."""
_FOLD = re.compile(r"(fold[-_ ]?)\d+", re.IGNORECASE)
"""The number of a fold in the name of a data file, e.g. ``fold_3.csv``."""

Setting = tuple[tuple[str, Any], ...]


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
class Run:
    """One run: its config as ``a.b.c: value``, and its metrics as ``split.output.metric: value`` if it is finished."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float] | None
    headline: Headline
    mode: str
    status: str


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed or fold only."""

    settings: Setting
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that have metrics."""
        return tuple(run for run in self.runs if run.metrics is not None)

    @property
    def count(self) -> str:
        """How many runs are finished: ``3``, or ``2/3`` if one is not."""
        return str(len(self.runs)) if self.finished == self.runs else f"{len(self.finished)}/{len(self.runs)}"

    def values(self, metric: str) -> list[float]:
        """The values of a metric, one per finished run that has it."""
        return [run.metrics[metric] for run in self.runs if run.metrics is not None and metric in run.metrics]


@dataclass(frozen=True)
class Section:
    """Rows with one headline, the best first; `mode` is ``min`` or ``max``."""

    headline: Headline
    mode: str
    rows: tuple[Row, ...]

    def best_run(self, row: Row) -> Run | None:
        """The run of a row with the best value of the headline metric."""
        metric = _ranking(self.headline, self.rows)
        measured = [run for run in row.finished if metric in (run.metrics or {})]
        sign = -1 if self.mode == "min" else 1
        return max(measured, key=lambda run: sign * (run.metrics or {})[metric], default=None)


@dataclass(frozen=True)
class Comparison:
    """The runs of a folder; `problems` are runs and jobs without a result, with their status.

    Attributes:
        settings: all config keys that differ between rows.
        metrics: all metrics, ``split.output.metric``.
        sections: rows by headline.
    """

    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    sections: tuple[Section, ...]
    problems: tuple[tuple[str, str], ...] = field(default=())

    def write_csv(self, path: Path) -> None:
        """Write all settings and all metrics, one line per row.

        Raises:
            UserError: the file cannot be written.
        """
        names = [f"{metric}_{what}" for metric in self.metrics for what in ("mean", "deviation")]
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["monitored", *self.settings, "runs", "finished", "seeds", "folders", *names])
                for section in self.sections:
                    writer.writerows([section.headline.metric, *self._csv_row(row)] for row in section.rows)
        except OSError as error:
            raise cannot_write(path, error) from None

    def _csv_row(self, row: Row) -> list[str]:
        settings = dict(row.settings)
        numbers: list[str] = []
        for metric in self.metrics:
            values = row.values(metric)
            numbers.append(repr(statistics.fmean(values)) if values else "")
            numbers.append(repr(statistics.stdev(values)) if len(values) > 1 else "")
        seeds = " ".join(str(run.config.get("seed", "")) for run in row.finished)
        folders = " ".join(run.name for run in row.runs)
        counts = [str(len(row.runs)), str(len(row.finished)), seeds, folders]
        return [*(as_text(settings[key]) if key in settings else "" for key in self.settings), *counts, *numbers]


def compare(folder: Path, over: Sequence[str] = ()) -> Comparison:
    """Read all runs below a folder.

    Args:
        folder: a sweep, or any folder with run folders below it.
        over: further config keys that repeat a run, as the seed does; runs that differ only in them make one row.

    Raises:
        UserError: no such folder, no run and no job in it, or no run has a key of `over`.
    """
    if not folder.is_dir():
        raise UserError(Fault(str(folder), "no such folder"))
    runs = list(_read_runs(folder))
    problems = tuple(_problems(folder, runs))
    if not runs and not problems:
        raise UserError(Fault(str(folder), "holds no runs (folders with config.yaml and manifest.json)"))
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    faults = [Fault("--over", f"no run has the key {key!r}{nearest(key, keys)}") for key in over if key not in keys]
    if faults and runs:
        raise UserError(*faults)
    varying = tuple(
        key
        for key in keys
        if not _is_apart(key, over) and len({_comparable(key, run.config.get(key)) for run in runs}) > 1
    )
    grouped: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        grouped.setdefault(tuple(_comparable(key, run.config.get(key)) for key in varying), []).append(run)
    rows = [
        Row(tuple((key, group[0].config[key]) for key in varying if key in group[0].config), tuple(group))
        for group in grouped.values()
    ]
    metrics = tuple(dict.fromkeys(name for run in runs for name in run.metrics or ()))
    return Comparison(varying, metrics, tuple(_sections(rows)), problems)


def _is_apart(key: str, over: Sequence[str]) -> bool:
    sections = tuple(name for name in APART_FROM_SETTINGS if name.endswith("."))
    return key in REPETITIONS or key in over or key in APART_FROM_SETTINGS or key.startswith(sections)


def _comparable(key: str, value: Any) -> str:
    """A value as it is distinguished from others: that of a data file without the number of its fold."""
    if key.startswith("data.") and isinstance(value, str):
        value = _FOLD.sub(r"\1", value)
    return json.dumps(value, sort_keys=True)


def _sections(rows: Sequence[Row]) -> Iterator[Section]:
    """Rows by headline, in the order in which the headlines come first."""
    for headline in dict.fromkeys(row.runs[0].headline for row in rows):
        group = [row for row in rows if row.runs[0].headline == headline]
        mode = (group[0].finished or group[0].runs)[0].mode
        sign, metric = -1 if mode == "min" else 1, _ranking(headline, group)
        group.sort(
            key=lambda row: statistics.fmean([sign * value for value in row.values(metric)] or [-math.inf]),
            reverse=True,
        )
        yield Section(headline, mode, tuple(group))


def _ranking(headline: Headline, rows: Sequence[Row]) -> str:
    """The metric by which rows are sorted: of validation rows or, where no run has any, of test rows."""
    metric = f"validation.{headline.metric}"
    return metric if any(row.values(metric) for row in rows) else f"test.{headline.metric}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """``0.8123 ± 0.0045``: mean and sample standard deviation; the mean alone for one value."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    decimals = ".4f" if mean == 0 or 1e-3 <= abs(mean) < 1e4 else ".4g"
    return f"{mean:{decimals}} ± {statistics.stdev(values):{decimals}}" if len(values) > 1 else f"{mean:{decimals}}"


def _read_runs(folder: Path) -> Iterator[Run]:
    for path in sorted(folder.rglob("config.yaml"), key=_in_counting_order):
        run_dir = path.parent
        if run_dir.name == "bundle" or not (run_dir / "manifest.json").is_file():
            continue
        try:
            config = read_config(path)
            manifest = read_json(run_dir / "manifest.json")
            if not isinstance(manifest, dict):
                raise ValueError("no JSON object")
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise UserError(
                Fault(str(run_dir / "manifest.json"), f"is damaged: {' '.join(str(error).split())}")
            ) from None
        wrong = dict(wrong_files(run_dir, ("config.yaml", "manifest.json", "result.json")))
        if faults := [
            Fault(str(run_dir / name), f"is {problem}; restore it, or remove {run_dir / CHECKSUMS} to take it as it is")
            for name, problem in wrong.items()
            if name in ("config.yaml", "manifest.json")
        ]:
            raise UserError(*faults)
        name = str(run_dir.relative_to(folder)) if run_dir != folder else run_dir.name
        result = None if "result.json" in wrong else _read_result(run_dir)
        status = "finished" if result is not None else str(manifest.get("status", "unknown"))
        if result is None and (run_dir / "result.json").exists():
            status = f"result.json is {wrong.get('result.json', 'damaged')}"
        metrics = None if result is None else _metrics(result)
        headline, mode = _headline(config, (result or {}).get("monitor") or {})
        yield Run(
            name, dict(_flat(config)), metrics, headline, mode, "running, or killed" if status == "running" else status
        )


def _headline(config: Mapping[str, Any], monitored: Mapping[str, Any]) -> tuple[Headline, str]:
    """What a run monitors, by its result or else by its config, and whether ``min`` or ``max`` is best."""
    monitor = monitored or (config.get("trainer") or {}).get("monitor") or {}
    metric = str(monitor.get("metric") or "loss")
    mode = str(monitor.get("mode") or ("min" if metric == "loss" else "max"))
    outputs = config.get("outputs") or {}
    output = monitor.get("output")
    measured = [output] if output else sorted(outputs)
    task = " ".join(f"{name}:{(outputs.get(name) or {}).get('type')}" for name in measured)
    return Headline(f"{output}.{metric}" if output else metric, task), mode


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    found = {
        f"{split}.{output}.{metric}": float(value)
        for split in ("validation", "test")
        for output, metrics in (result.get(split) or {}).items()
        for metric, value in metrics.items()
    }
    of_all = {metric: result.get(metric) or {} for metric in ("loss", AVERAGE)}
    return found | {
        f"{split}.{metric}": float(value) for metric, values in of_all.items() for split, value in values.items()
    }


def _problems(folder: Path, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """Jobs that failed, then runs that are not finished and belong to no such job."""
    finished = {run.name for run in runs if run.metrics is not None}
    named = set()
    for jobs_folder in sorted(path.parent for path in folder.rglob(JOBS) if path.is_dir()):
        for job in read_jobs(jobs_folder):
            name = str((jobs_folder / str(job.number)).relative_to(folder))
            if job.status != "done" and name not in finished:
                named.add(name)
                words = " ".join(word.lstrip("+") for word in job.overrides)
                yield f"{name} ({words})", f"{job.status}{f': {job.message}' if job.message else ''}"
    for run in runs:
        if run.metrics is None and run.name not in named:
            yield run.name, run.status


def _read_result(run_dir: Path) -> dict[str, Any] | None:
    try:
        content = read_json(run_dir / "result.json")
        _metrics(content)
    except (OSError, ValueError, TypeError, AttributeError):
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


def as_text(value: Any) -> str:
    """A value of a config as people write it."""
    return value if isinstance(value, str) else json.dumps(value)
