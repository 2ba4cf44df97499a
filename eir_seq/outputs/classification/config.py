"""What an experiment may say about a classification output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import LinearOutputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault, nearest
from eir_seq.outputs.classes.names import DECISION_METRICS, threshold_metric
from eir_seq.outputs.classification.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class ClassificationOutputConfig(LinearOutputBase):
    """One class out of several."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.CATEGORY
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.classification.output:Classification"
    REPORT: ClassVar[str] = "eir_seq.outputs.classification.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    AVERAGED: ClassVar[tuple[str, ...]] = ("mcc", "auroc", "average_precision")

    type: Literal["classification"] = "classification"
    loss: Literal["cross-entropy", "focal", "bce"] = Field(
        "cross-entropy",
        description="focal down-weights rows that are already easy; bce tells each class from the rest by itself, so "
        "that the probabilities of a row need not sum to 1",
    )
    focal_gamma: float = Field(2.0, ge=0, description="how strongly the focal loss discounts easy rows")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing: share of the target spread over all classes"
    )
    class_weights: Literal["balanced", "effective"] | dict[str, float] | None = Field(
        None,
        description="balanced: inversely to the class frequency of the training rows; effective: inversely to the "
        "effective number of rows (Cui et al. 2019); or by class name",
    )
    effective_beta: float = Field(
        0.999, ge=0, lt=1, description="beta of the effective number of rows, (1 - beta^n) / (1 - beta)"
    )
    thresholds: str | None = Field(
        None,
        description="metric that the decision thresholds maximise on the validation rows, with the best weights: "
        "accuracy, balanced_accuracy, f1, f1(CLASS) or mcc; without it, the most probable class is predicted",
    )
    costs: dict[str, dict[str, float]] | None = Field(
        None,
        description="cost of predicting a class, by true class and predicted class; 0 for the right one and 1 for "
        "others where it is not given. The class with the lowest expected cost is predicted",
    )

    @property
    def class_column(self) -> str:
        """The column of the classes."""
        return self.column

    @property
    def calibrated_by(self) -> str | None:
        """Its thresholds."""
        return None if self.thresholds is None else "thresholds"

    def unmeasured(self) -> dict[str, str]:
        """The mean cost, where there are no costs."""
        return {} if self.costs is not None else {"cost": "without costs"}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of a loss that is not chosen, and two ways to decide."""
        del sections
        place = f"outputs.{name}"
        if self.loss != "focal":
            yield from ignored(place, self, "focal_gamma", f"with loss {self.loss!r}")
        if self.class_weights != "effective":
            yield from ignored(place, self, "effective_beta", "without class_weights: effective")
        if self.thresholds is not None and self.costs is not None:
            yield Fault(f"{place}.thresholds", "cannot be combined with costs, by which classes are decided, too")
        if self.thresholds is not None and not threshold_metric(self.thresholds):
            listed = ", ".join(map(repr, (*DECISION_METRICS, "f1(CLASS)")))
            hint = nearest(self.thresholds, DECISION_METRICS)
            yield Fault(f"{place}.thresholds", f"{self.thresholds!r} is not one of {listed}{hint}")
