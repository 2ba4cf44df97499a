"""What an experiment may say about a classification output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import LinearOutputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault
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
    loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy", description="focal down-weights rows that are already easy"
    )
    focal_gamma: float = Field(2.0, ge=0, description="how strongly the focal loss discounts easy rows")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing: share of the target spread over all classes"
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None, description="balanced: inversely to the class frequency of the training rows; or by class name"
    )

    @property
    def class_column(self) -> str:
        """The column of the classes."""
        return self.column

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of a loss that is not chosen."""
        del sections
        if self.loss != "focal":
            yield from ignored(f"outputs.{name}", self, "focal_gamma", f"with loss {self.loss!r}")
