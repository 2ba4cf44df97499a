"""TensorBoard: scalars, the config as hyperparameters, and texts that models write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.trackers import TensorboardTrackerConfig
from eir_seq.training.module import metric_key
from eir_seq.training.monitor import monitor_of
from eir_seq.training.samples import Sample
from eir_seq.training.trackers.base import Tracker
from eir_seq.training.trackers.facts import hyperparameters

FOLDER = "tensorboard"


def tensorboard_tracker(_tracker: TensorboardTrackerConfig, config: ExperimentConfig, run_dir: Path) -> Tracker:
    """Event files in the folder ``tensorboard`` of the run."""
    return TensorboardFiles(config, run_dir)


class TensorboardFiles(Tracker):
    """The event files of one session of a run; TensorBoard shows those of all sessions as one."""

    def __init__(self, config: ExperimentConfig, run_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter, summary

        self.writer = SummaryWriter(str(run_dir / FOLDER))
        monitor = monitor_of(config)
        # The values of metrics stand for their tags here; those that are logged under these tags are shown.
        tags = dict.fromkeys((metric_key(split, monitor.output, monitor.metric) for split in ("validation", "test")), 0)
        of_run: Any = summary.hparams
        experiment, start, self._end = of_run(hyperparameters(config), tags)
        assert self.writer.file_writer is not None
        for part in (experiment, start):
            self.writer.file_writer.add_summary(part)
        self.writer.flush()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Scalars."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def write(self, samples: Sequence[Sample], step: int) -> None:
        """Texts, as Markdown that shows them as they are."""
        for place, sample in enumerate(samples):
            text = "\n".join(f"    {line}" for line in sample.shown.splitlines())
            self.writer.add_text(f"samples/{sample.output}/{place}", text, step)

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        if exit_code == 0:
            assert self.writer.file_writer is not None
            self.writer.file_writer.add_summary(self._end)
        self.writer.close()
