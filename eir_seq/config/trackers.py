"""Experiment trackers next to metrics.csv, as typed data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Strict

SEVERAL = "several"
"""The `type` of several trackers."""


class TrackerBase(Strict):
    """What every tracker has."""

    IMPLEMENTATION: ClassVar[str | None] = None
    """``module:function``, called as ``(tracker, experiment, run_dir)``, of the Lightning logger or the
    `eir_seq.training.trackers.base.Tracker`; None: there is none."""
    PACKAGE: ClassVar[str | None] = None
    """The package that it requires besides eir_seq."""

    if TYPE_CHECKING:
        type: str

    @property
    def patience(self) -> float:
        """Seconds that a run waits at its end for what is still to be sent."""
        return 60.0

    def named(self) -> dict[str, TrackerBase]:
        """The single trackers by their config paths."""
        return {"tracker": self}


class CsvTrackerConfig(TrackerBase):
    """metrics.csv only, which every run writes."""

    type: Literal["csv"] = "csv"


class SendingTracker(TrackerBase):
    """A tracker that may be slow."""

    timeout: float = Field(60.0, gt=0, description="seconds that a run waits at its end for what is still to be sent")

    @property
    def patience(self) -> float:
        """Seconds that a run waits at its end for what is still to be sent."""
        return self.timeout


class WandbTrackerConfig(SendingTracker):
    """Weights & Biases next to metrics.csv; the key comes from the environment only."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.trackers.wandb_run:wandb_tracker"
    PACKAGE: ClassVar[str] = "wandb"

    type: Literal["wandb"] = "wandb"
    project: str = Field("eir_seq", description="project that the run appears in")
    entity: str | None = Field(None, description="user or team; that of the key if absent")
    mode: Literal["online", "offline"] | None = Field(None, description="WANDB_MODE decides if absent")
    group: str | None = Field(None, description="by default the id of the sweep")
    tags: list[str] = Field([], description="labels to find the run by")
    report: bool = Field(True, description="whether the report of the run is uploaded as an artifact")


class MlflowTrackerConfig(SendingTracker):
    """MLflow: a server, or a folder of files; passwords come from the environment only (MLFLOW_TRACKING_PASSWORD)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.trackers.mlflow_run:mlflow_tracker"
    PACKAGE: ClassVar[str] = "mlflow"

    type: Literal["mlflow"] = "mlflow"
    uri: str | None = Field(
        None,
        description="https://SERVER, sqlite:///FILE or a folder; by default MLFLOW_TRACKING_URI or mlruns",
    )
    experiment: str | None = Field(None, description="experiment of MLflow; by default that of eir_seq")
    tags: dict[str, str] = Field({}, description="labels to find the run by")
    report: bool = Field(True, description="whether the report of the run is logged as an artifact")
    model: bool = Field(True, description="whether the bundle is logged as a model of MLflow")


class TensorboardTrackerConfig(SendingTracker):
    """TensorBoard event files in the run folder: metrics, config, texts that models write."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.trackers.tensorboard_files:tensorboard_tracker"
    PACKAGE: ClassVar[str] = "tensorboard"

    type: Literal["tensorboard"] = "tensorboard"


def named_trackers(given: Any) -> Any:
    """Several trackers by their types, where they are given as a list of names and mappings; else what is given.

    Example:
        >>> named_trackers(["wandb", {"type": "mlflow", "uri": "mlruns"}])
        {'type': 'several', 'wandb': {'type': 'wandb'}, 'mlflow': {'type': 'mlflow', 'uri': 'mlruns'}}
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    items = [dict(item) if isinstance(item, Mapping) else {"type": str(item)} for item in given]
    named: dict[str, Any] = {"type": SEVERAL}
    for place, item in enumerate(items):
        name = str(item.get("type", "unnamed"))
        count = sum(str(other.get("type", "unnamed")) == name for other in items[:place])
        named[f"{name}-{count + 1}" if count else name] = item
    return named


def with_sections(defaults: Sequence[Any]) -> list[Any] | None:
    """A defaults list in which each of several trackers has a section of its own; None where it names one at most.

    Hydra itself would merge the options of ``override /tracker: [wandb, mlflow]`` into one section.

    Example:
        >>> with_sections([{"override /fusion": "concat"}, {"override /tracker": ["wandb"]}])
        [{'/tracker@_global_.tracker.wandb': 'wandb'}, {'override /fusion': 'concat'}, {'override /tracker': 'csv'}]
    """
    keys = [next(iter(entry)) if isinstance(entry, Mapping) and len(entry) == 1 else "" for entry in defaults]
    for index, key in enumerate(keys):
        names = defaults[index][key] if key else None
        if str(key).removeprefix("override ").strip("/ ") != "tracker" or not isinstance(names, list) or not names:
            continue
        sections = [{f"/tracker@_global_.tracker.{name}": name} for name in names]
        single = [*defaults[:index], {key: "csv"}, *defaults[index + 1 :]]
        is_override = [str(key).startswith("override ") for key in keys]
        at = is_override.index(True) if is_override[index] else index + 1  # overrides come last
        return [*single[:at], *sections, *single[at:]]
    return None


def only_named(given: Any) -> Any:
    """The section without the trackers that `type`, the list that a command line gave, does not name."""
    if not isinstance(given, Mapping) or not isinstance(names := given.get("type"), list):
        return given
    return {name: item for name, item in given.items() if name in names or not isinstance(item, Mapping)} | {
        "type": SEVERAL
    }
