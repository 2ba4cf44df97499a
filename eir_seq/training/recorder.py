"""Where the measurements of a run go: metrics.csv, the trackers and the trainer, whose callbacks read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.metrics_file import Measurement, MetricsFile
from eir_seq.training.module import TrainingModule, metric_key
from eir_seq.training.ranks import Ranks
from eir_seq.training.trackers import log_to_trackers
from eir_seq.training.trackers.background import BackgroundTracker


class Recorder:
    """Records what a run measures.

    Args:
        module: the training module, which counts losses.
        outputs: the fitted outputs by name.
        metrics: the run's metrics.csv.
        trackers: what gets every measurement, too.
        ranks: the processes that train; rank 0 writes.
    """

    def __init__(
        self,
        module: TrainingModule,
        outputs: Mapping[str, FittedOutput],
        metrics: MetricsFile,
        trackers: Sequence[BackgroundTracker],
        ranks: Ranks,
    ) -> None:
        self.module, self.outputs, self.metrics = module, outputs, metrics
        self.trackers, self.ranks = trackers, ranks

    def training_loss(self, means: Mapping[str, float] | None = None) -> float | None:
        """The weighted sum of the outputs' mean losses, by default of those counted by this process."""
        means = self.module.running.means() if means is None else means  # of adversaries, too
        own = {name: output.config.loss_weight * means[name] for name, output in self.outputs.items() if name in means}
        return sum(own.values()) if own else None

    def record_training(self, epoch: int, step: int) -> None:
        """Record the losses since the last call, the learning rate and what the training rows tell."""
        means = self.module.running.of_all().means()
        values = {("", "loss"): self.training_loss(means)}
        values |= {(name, "loss"): value for name, value in means.items()}
        values["", "learning_rate"] = self.module.learning_rate(step)
        values |= {(name, "weight"): value for name, value in self.module.weighting.weights().items()}
        self.module.running.reset()
        if self.module.train_rows is not None:
            values |= self.module.train_rows.measured()
        known = [[*key, value] for key, value in values.items() if value is not None]
        known = self.ranks.broadcast(known)  # rank 0 knows the losses of all rows
        self.record([Measurement(epoch, step, "train", output, metric, value) for output, metric, value in known], step)

    def record(self, measurements: Sequence[Measurement], step: int) -> None:
        """Record values that were measured after a step."""
        named = {metric_key(m.split, m.output, m.metric): torch.tensor(m.value) for m in measurements}
        self.module.trainer.callback_metrics.update(named)
        if self.ranks.is_first:
            self.metrics.append(measurements)
        log_to_trackers(self.trackers, measurements, step=step)
