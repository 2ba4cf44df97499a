"""What an experiment may say about a multi-label output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import ColumnsOutputBase, HeadOutputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault
from eir_seq.outputs.multi_label.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class MultiLabelOutputConfig(HeadOutputBase, ColumnsOutputBase):
    """Any number of labels out of several: a column of truth values for each, or one column of lists."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.JSON
    COLUMNS_TYPE: ClassVar[ColumnType] = ColumnType.BOOLEAN
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.multi_label.output:MultiLabel"
    REPORT: ClassVar[str] = "eir_seq.outputs.multi_label.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    AVERAGED: ClassVar[tuple[str, ...]] = ("f1", "auroc", "average_precision")
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    TARGET: ClassVar[str] = "list of labels"

    type: Literal["multi_label"] = "multi_label"
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="what stands between the labels of a cell of `column`; without it, cells are lists",
    )
    pos_weight: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description="weight of the rows that have a label in its loss; balanced: those without it per row with it, "
        "among the training rows; or by label, 1 for those not named",
    )
    thresholds: Literal["accuracy", "balanced_accuracy", "f1", "mcc"] | None = Field(
        None,
        description="metric that each label's decision threshold maximises on the validation rows, with the best "
        "weights; 0.5 without it",
    )

    @property
    def calibrated_by(self) -> str | None:
        """Its thresholds."""
        return None if self.thresholds is None else "thresholds"

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Columns, and a delimiter where there is no list."""
        del sections
        yield from self.column_faults(name)
        if self.names is not None:
            yield from ignored(f"outputs.{name}", self, "delimiter", "with columns, which hold one label each")
            if len(self.names) < 2:
                yield Fault(f"outputs.{name}.columns", "has one label; for one use type: classification")
