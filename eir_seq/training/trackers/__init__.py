"""Trackers next to metrics.csv: Weights & Biases, MLflow, TensorBoard, and loggers of Lightning.

A tracker never decides whether or how fast a run goes on: see `eir_seq.training.trackers.background`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.trackers import TrackerBase
from eir_seq.errors import Fault, UserError
from eir_seq.registry import imported
from eir_seq.training.lightning import Logger, rank_zero_only
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.module import metric_key
from eir_seq.training.samples import Sample
from eir_seq.training.trackers.background import BackgroundTracker
from eir_seq.training.trackers.base import LoggerTracker, Tracker
from eir_seq.training.trackers.facts import SWEEP_VARIABLE

__all__ = ["SWEEP_VARIABLE", "build_trackers", "finish_trackers", "log_to_trackers", "samples_to_trackers"]

STOPPED_PATIENCE = 10.0
"""Seconds that a run waits for its trackers if a signal stops it: more may not be given to it."""


def build_trackers(config: ExperimentConfig, run_dir: Path) -> list[BackgroundTracker]:
    """The trackers that `tracker` selects; none for csv, and none in other processes of the run than the first.

    A resumed run continues the same run of Weights & Biases and MLflow, whose ids are kept in the run folder. End them
    with `finish_trackers`.

    Raises:
        UserError: the package of a tracker is not installed.
    """
    chosen = {place: tracker for place, tracker in config.tracker.named().items() if tracker.IMPLEMENTATION is not None}
    missing = {
        place: tracker.PACKAGE
        for place, tracker in chosen.items()
        if tracker.PACKAGE is not None and not is_installed(tracker.PACKAGE)
    }
    if missing:
        raise UserError(*(Fault(f"{place}.type", missing_package(package)) for place, package in missing.items()))
    if getattr(rank_zero_only, "rank", 0) != 0:
        return []
    return [_started(tracker, config, run_dir) for tracker in chosen.values()]


def log_to_trackers(trackers: Sequence[BackgroundTracker], measurements: Sequence[Measurement], step: int) -> None:
    """Give measurements to trackers as ``split/output/metric``; returns at once."""
    if trackers:
        named = {metric_key(m.split, m.output, m.metric): m.value for m in measurements}
        for tracker in trackers:
            tracker.call(partial(_log, named, step))


def samples_to_trackers(trackers: Sequence[BackgroundTracker], samples: Sequence[Sample], step: int) -> None:
    """Give texts that a model has written to trackers; returns at once."""
    for tracker in trackers if samples else ():
        tracker.call(lambda each: each.write(samples, step))


def finish_trackers(
    trackers: Sequence[BackgroundTracker],
    exit_code: int = 0,
    *,
    run_dir: Path | None = None,
    result: Mapping[str, Any] | None = None,
) -> None:
    """End all trackers, and wait as long as each may take. Safe to call twice.

    Args:
        trackers: of the run.
        exit_code: other than 0 marks the run as failed.
        run_dir: of a finished run: what its folder holds is sent first, as each tracker can show it.
        result: of a finished run.
    """
    for tracker in trackers:
        if run_dir is not None and result is not None:
            tracker.call(partial(_conclude, run_dir, result))
    for tracker in trackers:
        tracker.finish(exit_code, patience=STOPPED_PATIENCE if exit_code > 128 else None)


def _log(named: Mapping[str, float], step: int, tracker: Tracker) -> None:
    tracker.log(named, step)


def _conclude(run_dir: Path, result: Mapping[str, Any], tracker: Tracker) -> None:
    tracker.conclude(run_dir, result)


def _started(tracker: TrackerBase, config: ExperimentConfig, run_dir: Path) -> BackgroundTracker:
    # On this thread: a process that is forked (for loading data) while another thread imports can wait for ever.
    failure: Exception | None = None
    build: Any = None
    try:
        build = imported(str(tracker.IMPLEMENTATION))
        if tracker.PACKAGE is not None:
            importlib.import_module(tracker.PACKAGE)
    except Exception as error:  # of a package that is there and broken
        failure = error

    def start() -> Tracker:
        if failure is not None:
            raise failure
        built = build(tracker, config, run_dir)
        return LoggerTracker(built) if isinstance(built, Logger) else built

    return BackgroundTracker(tracker.type, start, patience=tracker.patience)
