"""The interface of trackers. Each is called on a thread of its own, where it may block and fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq.training.lightning import Logger
from eir_seq.training.samples import Sample


class Tracker:
    """One tracker of one run. What it raises is a warning, and the end of it; the run goes on."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Measurements, as ``split/output/metric``."""
        raise NotImplementedError

    def write(self, samples: Sequence[Sample], step: int) -> None:
        """Texts that a model has written at an evaluation."""

    def conclude(self, run_dir: Path, result: Mapping[str, Any]) -> None:
        """The run is finished: its folder holds all that belongs to it, but for checksums."""

    def finish(self, exit_code: int) -> None:
        """Send what is left and end; the run has failed if `exit_code` is not 0."""


class LoggerTracker(Tracker):
    """A logger of Lightning."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Measurements, as ``split/output/metric``."""
        self.logger.log_metrics(dict(values), step=step)

    def finish(self, exit_code: int) -> None:
        """Let it write what is left."""
        self.logger.finalize("success" if exit_code == 0 else "failed")
