"""Callbacks of Lightning's trainer, as typed data."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Positive, Strict


class CallbackBase(Strict):
    """What declares a callback; `eir_seq.registry` lists those there are.

    `IMPLEMENTATION` is a ``lightning.pytorch.Callback``, called with the options. It gets the hooks of training and
    those around evaluations (``on_validation_epoch_end`` with all metrics in ``trainer.callback_metrics``). What its
    ``state_dict`` gives is kept in checkpoints: numbers, texts, lists, mappings and tensors.

    Example:
        >>> from eir_seq.config.callbacks import RichProgressConfig
        >>> RichProgressConfig(refresh_rate=10).options()
        {'refresh_rate': 10, 'leave': False}
    """

    IMPLEMENTATION: ClassVar[str]
    OBSERVES: ClassVar[bool] = False
    """Whether it leaves training as it is, so that a run may be continued with another one, or without."""

    type: str

    def options(self) -> dict[str, Any]:
        """The arguments of the implementation."""
        return self.model_dump(exclude={"type"})

    def packages(self) -> tuple[str, ...]:
        """Packages that it needs besides those of eir_seq."""
        return ()


class RichProgressConfig(CallbackBase):
    """Lightning's progress bar of each epoch, in place of the one of the whole run."""

    IMPLEMENTATION: ClassVar[str] = "lightning.pytorch.callbacks:RichProgressBar"
    OBSERVES: ClassVar[bool] = True

    type: Literal["rich_progress"] = "rich_progress"
    refresh_rate: Positive = Field(1, description="batches between updates")
    leave: bool = Field(False, description="leave the bars of past epochs on the screen")


class LearningRateMonitorConfig(CallbackBase):
    """The learning rate of each parameter group, and other options of the optimizer."""

    IMPLEMENTATION: ClassVar[str] = "lightning.pytorch.callbacks:LearningRateMonitor"
    OBSERVES: ClassVar[bool] = True

    type: Literal["learning_rate_monitor"] = "learning_rate_monitor"
    logging_interval: Literal["step", "epoch"] | None = Field(None, description="that of the schedule if absent")
    log_momentum: bool = Field(False, description="note the momentum (betas) as well")
    log_weight_decay: bool = Field(False, description="note the weight decay as well")


class DeviceStatsConfig(CallbackBase):
    """Memory of the GPU, and the load of CPU and memory, at batches."""

    IMPLEMENTATION: ClassVar[str] = "lightning.pytorch.callbacks:DeviceStatsMonitor"
    OBSERVES: ClassVar[bool] = True

    type: Literal["device_stats"] = "device_stats"
    cpu_stats: bool = Field(True, description="load of the CPU and memory; needs psutil")

    def packages(self) -> tuple[str, ...]:
        """psutil for the CPU."""
        return ("psutil",) if self.cpu_stats else ()
