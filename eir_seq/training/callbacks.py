"""The callbacks that an experiment configures, as Lightning's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.registry import imported
from eir_seq.training.lightning import Callback, Logger, MisconfigurationException, ProgressBar


def build_callbacks(config: ExperimentConfig) -> list[Callback]:
    """The callbacks of an experiment, in order.

    Raises:
        UserError: a package is missing, a callback refuses its options, or there are two progress bars.
    """
    found: list[Callback] = []
    faults: list[Fault] = []
    bars: list[str] = []
    for name, declared in config.callbacks.items():
        place = f"callbacks.{name}"
        if missing := [package for package in declared.packages() if not is_installed(package)]:
            faults += [Fault(place, missing_package(package)) for package in missing]
            continue
        try:
            callback = imported(declared.IMPLEMENTATION)(**declared.options())
        except (TypeError, ValueError, ImportError, MisconfigurationException) as error:
            faults.append(Fault(place, f"{declared.IMPLEMENTATION}: {error}"))
            continue
        if not isinstance(callback, Callback):
            faults.append(Fault(place, f"{declared.IMPLEMENTATION} is not a lightning.pytorch.Callback"))
            continue
        if isinstance(callback, ProgressBar):
            bars.append(name)
        found.append(callback)
    faults += [Fault(f"callbacks.{name}", f"is a progress bar, and so is callbacks.{bars[0]}") for name in bars[1:]]
    if faults:
        raise UserError(*faults)
    return found


def shows_progress(callbacks: Sequence[Callback]) -> bool:
    """Whether one of them is a progress bar."""
    return any(isinstance(callback, ProgressBar) for callback in callbacks)


class RunLogger(Logger):
    """Passes what callbacks log to the run, which writes it to metrics.csv and its trackers.

    Args:
        note: takes the values by name.
        run_dir: the run folder, ``trainer.log_dir`` for callbacks that write files.
    """

    def __init__(self, note: Callable[[Mapping[str, float]], None], run_dir: Path) -> None:
        super().__init__()
        self._note, self._run_dir = note, run_dir

    @property
    def name(self) -> str:
        """A name that Lightning requires."""
        return "run"

    @property
    def version(self) -> str:
        """None but the one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._run_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note the values that are numbers; the run knows the step."""
        del step
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if values := {name: value for name, value in values.items() if math.isfinite(value)}:
            self._note(values)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder has the config."""
