"""Runs side by side: those that differ in their seed or fold only make one row, with mean and standard deviation."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import read_json
from eir_seq.inference.compare_metric import Chosen, chosen_metric
from eir_seq.inference.compare_statistics import Summary, summary
from eir_seq.inference.jobs import JOBS, Job, read_jobs
from eir_seq.inference.run_list import Headline, headline_of, run_folders
from eir_seq.inference.trials import Sweep, read_sweeps
from eir_seq.machine import cannot_write
from eir_seq.training.checksums import CHECKSUMS, wrong_files
from eir_seq.training.folder import flat, read_config

REPETITIONS = ("seed", "data.split_seed", "data.fold")
"""Config keys whose values repeat a run rather than change what it does."""
APART_FROM_SETTINGS = ("note", "run.", "tracker.", "trainer.threads", "cache.", "data.num_workers", "data.cache_dir")
"""Config keys in which runs of one row may differ as well; a dot at the end stands for the whole section."""
_RESAMPLED = ("data.split_seed", "data.fold")
"""Those of them with which other rows are trained on."""
_FOLD = re.compile(r"(fold[-_ ]?)\d+", re.IGNORECASE)
"""The number of a fold in the name of a data file, e.g. ``fold_3.csv``."""

Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """One run: its config as ``a.b.c: value``, and its metrics as ``split.output.metric: value`` if it is finished.

    Attributes:
        folder: of the run; None for a trial whose folder is on another machine.
        rows: of the data, by split.
        steps: optimizer steps of a finished run.
    """

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float] | None
    headline: Headline
    mode: str
    status: str
    folder: Path | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None


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
    def headline(self) -> Headline:
        """What the runs monitor, as a finished one says."""
        return (self.finished or self.runs)[0].headline

    @property
    def count(self) -> str:
        """How many runs are finished: ``3``, or ``2/3`` if one is not."""
        return str(len(self.runs)) if self.finished == self.runs else f"{len(self.finished)}/{len(self.runs)}"

    def values(self, metric: str) -> list[float]:
        """The values of a metric, one per finished run that has it."""
        return [run.metrics[metric] for run in self.runs if run.metrics is not None and metric in run.metrics]

    def summary(self, metric: str) -> Summary | None:
        """Mean, standard deviation and confidence interval of a metric; None if no finished run has it."""
        return summary(self.values(metric), overlap=overlap(self.runs, metric))


@dataclass(frozen=True)
class Section:
    """Rows with one headline, the best first; `mode` is ``min`` or ``max``, `ranking` the metric that orders them."""

    headline: Headline
    mode: str
    rows: tuple[Row, ...]
    ranking: str

    def best_run(self, row: Row) -> Run | None:
        """The run of a row with the best value of the metric that orders rows."""
        metric = self.ranking
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
        paired: config keys that pair runs of two rows: those that differ and belong to no setting.
        sweeps: the searches below the folder.
        pruned: trials that were stopped early because they did badly.
    """

    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    sections: tuple[Section, ...]
    problems: tuple[tuple[str, str], ...] = field(default=())
    paired: tuple[str, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    pruned: tuple[str, ...] = ()

    def write_csv(self, path: Path) -> None:
        """Write all settings and all metrics, one line per row.

        Raises:
            UserError: the file cannot be written.
        """
        titles, rows = self.table()
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(titles)
                writer.writerows(rows)
        except OSError as error:
            raise cannot_write(path, error) from None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of what `write_csv` writes."""
        names = [f"{metric}_{what}" for metric in self.metrics for what in ("mean", "deviation", "low", "high")]
        titles = ["monitored", *self.settings, "runs", "finished", "seeds", "folders", *names]
        return titles, [
            [section.headline.metric, *self._csv_row(row)] for section in self.sections for row in section.rows
        ]

    def _csv_row(self, row: Row) -> list[str]:
        settings = dict(row.settings)
        numbers: list[str] = []
        for metric in self.metrics:
            found = row.summary(metric)
            values = () if found is None else (found.mean, found.deviation, found.low, found.high)
            numbers += [*("" if value is None else repr(value) for value in values), *[""] * (4 - len(values))]
        seeds = " ".join(str(run.config.get("seed", "")) for run in row.finished)
        folders = " ".join(run.name for run in row.runs)
        counts = [str(len(row.runs)), str(len(row.finished)), seeds, folders]
        return [*(as_text(settings[key]) if key in settings else "" for key in self.settings), *counts, *numbers]


def compare(folder: Path, over: Sequence[str] = (), *, by: Sequence[str] = (), metric: str | None = None) -> Comparison:
    """Read all runs below a folder.

    Args:
        folder: a sweep, or any folder with run folders below it.
        over: further config keys that repeat a run, as the seed does; runs that differ only in them make one row.
        by: config keys of which each combination of values makes one row, over all other keys that differ.
        metric: what rows are compared by, ``output.metric`` with or without its split; by default what is monitored.

    Raises:
        UserError: no such folder, no run and no job in it, all runs are damaged, or no run has a key of `over` or `by`,
            or the metric.
    """
    runs, damaged = _read_runs(folder)
    sweeps = read_sweeps(folder)
    runs += _elsewhere(folder, runs, sweeps)
    jobs = _unfinished_jobs(folder, runs)
    runs = [replace(run, status=jobs[run.name][0].status) if run.name in jobs else run for run in runs]
    problems = (*_problems(runs, jobs), *damaged)
    if not runs and not jobs:
        raise UserError(Fault(str(folder), "holds no runs (folders with config.yaml and manifest.json)"))
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    faults = [
        Fault(option, f"no run has the key {key!r}{nearest(key, keys)}")
        for option, named in (("--over", over), ("--by", by))
        for key in named
        if key not in keys
    ]
    metrics = tuple(dict.fromkeys(name for run in runs for name in run.metrics or ()))
    chosen = None
    if metric is not None:
        try:
            chosen = chosen_metric(metric, metrics, runs[0].config if runs else {})
        except UserError as error:
            faults += error.faults
    if faults and runs:
        raise UserError(*faults)
    if chosen is not None:
        runs = [replace(run, headline=Headline(chosen.name, run.headline.task), mode=chosen.mode) for run in runs]
    differing = [key for key in keys if _differs(key, runs)]
    varying = tuple(by) or tuple(key for key in differing if not _is_apart(key, over))
    grouped: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        grouped.setdefault(tuple(_comparable(key, run.config.get(key)) for key in varying), []).append(run)
    rows = [
        Row(tuple((key, group[0].config[key]) for key in varying if key in group[0].config), tuple(group))
        for group in grouped.values()
    ]
    sections = tuple(_sections(rows, chosen))
    everywhere = [key for key in keys if all(key in run.config for run in runs)]
    paired = tuple(
        key
        for key in everywhere
        if key not in varying and not _is_technical(key) and len({as_text(run.config[key]) for run in runs}) > 1
    )
    pruned = tuple(name for name, (job, _) in jobs.items() if job.status == "pruned")
    return Comparison(varying, metrics, sections, problems, paired, sweeps, pruned)


def overlap(runs: Sequence[Run], metric: str) -> float:
    """By how much repetitions on other rows depend on each other: rows measured, by rows trained on; 0 for seeds.

    The training rows of folds or random splits overlap, so that their mean varies more than as many independent
    values would (Nadeau and Bengio 2003).
    """
    keys = {key for run in runs for key, value in run.config.items() if key in _RESAMPLED or _has_fold(key, value)}
    if not any(len({as_text(run.config.get(key)) for run in runs}) > 1 for key in keys):
        return 0.0
    split = metric.partition(".")[0]
    shares = [run.rows[split] / run.rows["train"] for run in runs if run.rows.get("train") and split in run.rows]
    return statistics.fmean(shares) if shares else 0.0


def _differs(key: str, runs: Sequence[Run]) -> bool:
    return len({_comparable(key, run.config.get(key)) for run in runs}) > 1


def _is_technical(key: str) -> bool:
    """Whether a key changes nothing that a run computes."""
    sections = tuple(name for name in APART_FROM_SETTINGS if name.endswith("."))
    return key in APART_FROM_SETTINGS or key.startswith(sections)


def _is_apart(key: str, over: Sequence[str]) -> bool:
    return key in REPETITIONS or key in over or _is_technical(key)


def _has_fold(key: str, value: Any) -> bool:
    return key.startswith("data.") and isinstance(value, str) and _FOLD.search(value) is not None


def _comparable(key: str, value: Any) -> str:
    """A value as it is distinguished from others: that of a data file without the number of its fold."""
    if _has_fold(key, value):
        value = _FOLD.sub(r"\1", value)
    return json.dumps(value, sort_keys=True)


def _sections(rows: Sequence[Row], chosen: Chosen | None) -> Iterator[Section]:
    """Rows by headline, in the order in which the headlines come first."""
    for headline in dict.fromkeys(row.headline for row in rows):
        group = [row for row in rows if row.headline == headline]
        mode = (group[0].finished or group[0].runs)[0].mode
        sign, metric = -1 if mode == "min" else 1, _ranking(headline, group, chosen)
        group.sort(
            key=lambda row: statistics.fmean([sign * value for value in row.values(metric)] or [-math.inf]),
            reverse=True,
        )
        yield Section(headline, mode, tuple(group), metric)


def _ranking(headline: Headline, rows: Sequence[Row], chosen: Chosen | None) -> str:
    """The metric by which rows are sorted: of validation rows or, where no run has any, of test rows."""
    if chosen is not None and chosen.split is not None:
        return f"{chosen.split}.{headline.metric}"
    metric = f"validation.{headline.metric}"
    return metric if any(row.values(metric) for row in rows) else f"test.{headline.metric}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """``0.8123 ± 0.0045``: mean and sample standard deviation; the mean alone for one value."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    decimals = ".4f" if mean == 0 or 1e-3 <= abs(mean) < 1e4 else ".4g"
    return f"{mean:{decimals}} ± {statistics.stdev(values):{decimals}}" if len(values) > 1 else f"{mean:{decimals}}"


def _read_runs(folder: Path) -> tuple[list[Run], list[tuple[str, str]]]:
    """The runs below a folder, and those that cannot be read, each with what is wrong with it.

    Raises:
        UserError: none can be read.
    """
    runs, damaged, faults = list[Run](), list[tuple[str, str]](), list[Fault]()
    for run_dir in run_folders(folder):
        name = str(run_dir.relative_to(folder)) if run_dir != folder else run_dir.name
        try:
            runs.append(_read_run(run_dir, name))
        except UserError as error:
            faults += error.faults
            damaged.append((name, "; ".join(f"{Path(x.place).name} {x.message}" for x in error.faults)))
    if damaged and not runs:
        raise UserError(*faults)
    return runs, damaged


def _read_run(run_dir: Path, name: str) -> Run:
    """One run; raises `UserError` if it is damaged."""
    config = read_config(run_dir / "config.yaml")
    try:
        manifest = read_json(run_dir / "manifest.json")
        if not isinstance(manifest, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(Fault(str(run_dir / "manifest.json"), f"is damaged: {' '.join(str(error).split())}")) from None
    wrong = dict(wrong_files(run_dir, ("config.yaml", "manifest.json", "result.json")))
    if faults := [
        Fault(str(run_dir / file), f"is {problem}; restore it, or remove {run_dir / CHECKSUMS} to take it as it is")
        for file, problem in wrong.items()
        if file in ("config.yaml", "manifest.json")
    ]:
        raise UserError(*faults)
    result = None if "result.json" in wrong else _read_result(run_dir)
    status = "finished" if result is not None else str(manifest.get("status", "unknown"))
    there = (run_dir / "result.json").exists()
    if result is None and (there or status == "finished"):
        status = f"result.json is {wrong.get('result.json', 'damaged' if there else 'missing')}"
    headline, mode = headline_of(config, (result or {}).get("monitor") or {})
    return Run(
        name,
        dict(flat(config)),
        None if result is None else _metrics(result),
        headline,
        mode,
        "running, or killed" if status == "running" else status,
        run_dir,
        _rows_of(manifest),
        (result or {}).get("steps"),
    )


def _rows_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    data = manifest.get("data")
    rows = data.get("rows") if isinstance(data, Mapping) else None
    return {str(split): n for split, n in rows.items() if isinstance(n, int)} if isinstance(rows, Mapping) else {}


def _elsewhere(folder: Path, runs: Sequence[Run], sweeps: Sequence[Sweep]) -> Iterator[Run]:
    """Complete trials of searches whose run folders are not here, with what the tables of the searches say of them."""
    names = {run.name for run in runs}
    for sweep in sweeps:
        here = next((run for run in runs if run.folder is not None and sweep.folder in run.folder.parents), None)
        place = "" if sweep.folder == folder else f"{sweep.folder.relative_to(folder)}/"
        name, direction = sweep.objective
        headline = Headline(name, "") if here is None else here.headline
        for trial in sweep.trials:
            title = f"{place}{trial.number}"
            if trial.state == "complete" and title not in names and trial.value is not None:
                config = {**(here.config if here is not None else {}), **trial.params}
                mode = "min" if direction == "minimize" else "max"
                yield Run(title, config, {f"validation.{headline.metric}": trial.value}, headline, mode, "finished")


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


def _unfinished_jobs(folder: Path, runs: Sequence[Run]) -> dict[str, tuple[Job, str]]:
    """Jobs of sweeps that did not come to their end, by the name of their run, with what is special about each."""
    finished = {run.name for run in runs if run.metrics is not None}
    found = {}
    for jobs_folder in sorted(path.parent for path in folder.rglob(JOBS) if path.is_dir()):
        jobs = read_jobs(jobs_folder)
        shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
        for job in jobs:
            name = str((jobs_folder / str(job.number)).relative_to(folder))
            if job.status != "done" and name not in finished:
                found[name] = job, " ".join(word.lstrip("+") for word in job.overrides if word not in shared)
    return found


def _problems(runs: Sequence[Run], jobs: Mapping[str, tuple[Job, str]]) -> Iterator[tuple[str, str]]:
    """Jobs that failed, then runs that are not finished and belong to no such job."""
    for name, (job, words) in jobs.items():
        if job.status != "pruned":
            yield f"{name} ({words})" if words else name, f"{job.status}{f': {job.message}' if job.message else ''}"
    for run in runs:
        if run.metrics is None and run.name not in jobs:
            yield run.name, run.status


def _read_result(run_dir: Path) -> dict[str, Any] | None:
    try:
        content = read_json(run_dir / "result.json")
        _metrics(content)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return content if isinstance(content, dict) else None


def as_text(value: Any) -> str:
    """A value of a config as people write it."""
    return value if isinstance(value, str) else json.dumps(value)
