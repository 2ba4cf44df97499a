"""The value by which the evaluations of a run are compared; without torch."""

from __future__ import annotations

from dataclasses import dataclass

from eir_seq.config.metrics import AVERAGE, find_metric, nearest_metric
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError, nearest


@dataclass(frozen=True)
class Monitor:
    """The value by which evaluations are compared."""

    output: str
    metric: str
    mode: str

    def __str__(self) -> str:
        return f"trainer.monitor: {self.metric}" + (f" of outputs.{self.output}" if self.output else "")

    def better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Whether `value` is better than another one by more than `by`."""
        if than is None:
            return True
        return value < than - by if self.mode == "min" else value > than + by


def monitor_of(config: ExperimentConfig) -> Monitor:
    """The value that `trainer.monitor` names.

    Raises:
        UserError: there is no such output or metric, or it could be that of several outputs.
    """
    wanted = config.trainer.monitor
    output, metric = wanted.output, wanted.metric
    listed = ", ".join(config.outputs)
    if output is not None and output not in config.outputs:
        raise UserError(
            Fault(
                "trainer.monitor.output",
                f"{output!r} is not an output (there are: {listed}){nearest(output, config.outputs)}",
            )
        )
    if output is None and metric == "loss":
        return Monitor("", "loss", wanted.mode or "min")
    if output is None and metric == AVERAGE:
        return Monitor("", AVERAGE, "max")
    if output is None:
        if len(config.outputs) > 1:
            raise UserError(Fault("trainer.monitor.output", f"say whose {metric} it is: {listed}"))
        output = next(iter(config.outputs))
    kind = config.outputs[output]
    found = find_metric(metric, kind.metrics())
    if found is None:
        known = kind.monitored()
        raise UserError(
            Fault(
                "trainer.monitor.metric",
                f"{metric!r} is not a metric of outputs.{output} (there are: {', '.join(known)})"
                f"{nearest_metric(metric, known.values())}",
            )
        )
    return Monitor(output, metric, wanted.mode or found.better)
