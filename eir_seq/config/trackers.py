"""Experiment trackers next to metrics.csv, as typed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Strict


class TrackerBase(Strict):
    """What every tracker has."""

    IMPLEMENTATION: ClassVar[str | None] = None
    """``module:function``, called as ``(tracker, experiment, run_dir)``, of the Lightning logger; None: there is none.
    """
    PACKAGE: ClassVar[str | None] = None
    """The package that it requires besides eir_seq."""

    if TYPE_CHECKING:
        type: str


class CsvTrackerConfig(TrackerBase):
    """metrics.csv only, which every run writes."""

    type: Literal["csv"] = "csv"


class WandbTrackerConfig(TrackerBase):
    """Weights & Biases next to metrics.csv; the key comes from the environment only."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.trackers:wandb_logger"
    PACKAGE: ClassVar[str] = "wandb"

    type: Literal["wandb"] = "wandb"
    project: str = Field("eir_seq", description="project that the run appears in")
    entity: str | None = Field(None, description="user or team; that of the key if absent")
    mode: Literal["online", "offline"] | None = Field(None, description="WANDB_MODE decides if absent")
    group: str | None = Field(None, description="by default the id of the sweep")
    tags: list[str] = Field([], description="labels to find the run by")


class TensorboardTrackerConfig(TrackerBase):
    """TensorBoard event files in the run folder, next to metrics.csv."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.trackers:tensorboard_logger"
    PACKAGE: ClassVar[str] = "tensorboard"

    type: Literal["tensorboard"] = "tensorboard"
