"""What can be said against a run before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from eir_seq.config.metrics import AVERAGE
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import check_generation
from eir_seq.training.devices import check_precision, device_count, pick_device
from eir_seq.training.monitor import Monitor, monitor_of
from eir_seq.training.optimization import total_steps

if TYPE_CHECKING:
    from eir_seq.data.loaded import Splits

T = TypeVar("T")


def check_config(config: ExperimentConfig, index: int = 0) -> tuple[torch.device, Monitor]:
    """The device and the monitored value, before any data are read; sets the number of threads.

    Args:
        config: the experiment.
        index: which of several GPUs.

    Raises:
        UserError: with all that is wrong with the trainer's settings on this machine.
    """
    faults: list[Fault] = []

    def attempt(look: Callable[[], T]) -> T | None:
        try:
            return look()
        except UserError as error:
            faults.extend(error.faults)
            return None

    device = attempt(lambda: pick_device(config.trainer.accelerator, index))
    if device is not None:
        attempt(lambda: check_precision(config.trainer, device))
        attempt(lambda: device_count(config.trainer, device))
    monitor = attempt(lambda: monitor_of(config))
    attempt(lambda: total_steps(config.trainer, 1))
    if config.trainer.compile and (device is None or device.type == "cpu") and not _has_compiler():
        faults.append(Fault("trainer.compile", "needs a C++ compiler (g++ or clang++, or the one that CXX names)"))
    for name, output in config.outputs.items():
        if (options := output.generation_options) is not None:
            attempt(partial(check_generation, options, f"outputs.{name}.generation"))
    if device is None or monitor is None or faults:
        raise UserError(*faults)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    return device, monitor


def _has_compiler() -> bool:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return any(shutil.which(name) for name in names)


def check_parts(
    config: ExperimentConfig,
    splits: Splits,
    outputs: Mapping[str, FittedOutput],
    monitor: Monitor,
    targets: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """What can be checked only when the data are known.

    Args:
        config: the experiment.
        splits: the rows.
        outputs: the fitted outputs by name.
        monitor: what makes an evaluation the best.
        targets: by split and output.

    Raises:
        UserError: early stopping or a monitored metric without validation rows; a metric of a class that is none, or
            that the validation rows leave undefined.
    """
    faults = []
    if splits.validation is None and config.trainer.early_stopping is not None:
        faults.append(Fault("trainer.early_stopping", "needs validation rows; data.validation is null"))
    if splits.validation is None and (monitor.output or monitor.metric != "loss"):
        faults.append(Fault("trainer.monitor", "needs validation rows; data.validation is null"))
    class_name = monitor.metric.partition("(")[2].removesuffix(")")
    classes = outputs[monitor.output].parts if monitor.output else ()
    if class_name and class_name not in classes:
        faults.append(
            Fault(
                "trainer.monitor.metric",
                f"{class_name!r} is not a class of outputs.{monitor.output}{nearest(class_name, classes)}",
            )
        )
    measured = [(monitor.output, monitor.metric)]
    if monitor.metric == AVERAGE and not monitor.output:
        measured = [(name, metric) for name, output in outputs.items() for metric in output.config.AVERAGED]
    for name, metric in measured:
        target = targets.get("validation", {}).get(name)
        reason = None if target is None else outputs[name].undefined(target).get(metric)
        if reason is not None:
            place = f"{metric!r} of outputs.{name} is undefined on the validation rows: {reason}"
            faults.append(Fault("trainer.monitor.metric", f"{place}; monitor loss, or choose other validation rows"))
    for name, output in outputs.items():
        key = output.config.calibrated_by
        if key is not None and name not in targets.get("validation", {}):
            message = f"is chosen on validation rows, none of which has a target of outputs.{name}"
            faults.append(Fault(f"outputs.{name}.{key}", message))
    wanted = [monitor.output] if monitor.output else list(outputs)
    for name in wanted if splits.validation is not None else ():
        if name not in targets.get("validation", {}):
            what = (
                f"{monitor.metric!r} of outputs.{name}"
                if monitor.output
                else f"the {AVERAGE if monitor.metric == AVERAGE else 'sum of losses'}"
            )
            message = f"no validation row has a target of outputs.{name}, without which {what} is not measured"
            faults.append(Fault("trainer.monitor", f"{message}; monitor another output, or give such rows"))
    if faults:
        raise UserError(*faults)
