"""What a search optimizes, and where a run folder has it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eir_seq.config.schema import ExperimentConfig, MonitorConfig
from eir_seq.config.sweep_settings import Direction, SweepConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json, read_text
from eir_seq.training.monitor import monitor_of

DIRECTIONS: dict[str, Direction] = {"min": "minimize", "max": "maximize"}


@dataclass(frozen=True)
class Objective:
    """A metric of the validation rows; `output` is empty for one of the whole run, as in metrics.csv."""

    output: str
    metric: str
    direction: Direction

    @property
    def name(self) -> str:
        """``output.metric``."""
        return f"{self.output}.{self.metric}" if self.output else self.metric


def objectives_of(experiment: ExperimentConfig, config: SweepConfig) -> list[Objective]:
    """The objectives: those of `sweep.metrics`, or the monitored metric.

    Raises:
        UserError: no such metric, or the other direction than that by which the best checkpoint is chosen.
    """
    if not config.metrics:
        monitor = monitor_of(experiment)
        direction = DIRECTIONS[monitor.mode]
        if config.direction not in (None, direction):
            message = f"is {config.direction}, but trainer.monitor chooses the {monitor.mode}imum of {monitor.metric}"
            raise UserError(Fault("sweep.direction", f"{message}; leave one of them out"))
        return [Objective(monitor.output, monitor.metric, direction)]
    faults: list[Fault] = []
    found: list[Objective] = []
    for place, name in enumerate(config.metrics):
        output, _, metric = name.rpartition(".")
        wanted = MonitorConfig(output=output or None, metric=metric)
        trainer = experiment.trainer.model_copy(update={"monitor": wanted})
        try:
            monitor = monitor_of(experiment.model_copy(update={"trainer": trainer}))
        except UserError as error:
            faults += [Fault(f"sweep.metrics[{place}]", fault.message) for fault in error.faults]
            continue
        direction = config.directions[place] if config.directions else DIRECTIONS[monitor.mode]
        found.append(Objective(monitor.output, monitor.metric, direction))
    if faults:
        raise UserError(*faults)
    return found


def evaluations(metrics: Path, objective: Objective) -> list[float]:
    """The values of an objective in a metrics.csv, one for each evaluation of the validation rows.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    text = read_text(metrics)
    whole = text[: text.rfind("\n") + 1]  # the last line may be being written
    wanted = ("validation", objective.output, objective.metric)
    rows = csv.DictReader(io.StringIO(whole))
    return [float(row["value"]) for row in rows if (row["split"], row["output"], row["metric"]) == wanted]


def values_of(run_dir: Path, objectives: Sequence[Objective]) -> tuple[float, ...] | str:
    """The values of a finished run, or why it has none."""
    try:
        result = read_json(run_dir / "result.json")
        monitored = result.get("monitor") or {}
        if [(monitored.get("output"), monitored.get("metric"))] == [(item.output, item.metric) for item in objectives]:
            found = [monitored["value"]]
        else:
            found = [
                result["validation"][item.output][item.metric] if item.output else result[item.metric]["validation"]
                for item in objectives
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its result.json has no {' and '.join(item.name for item in objectives)} of validation rows"
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in found):
        return f"its {' or '.join(item.name for item in objectives)} is undefined"
    return tuple(map(float, found))
