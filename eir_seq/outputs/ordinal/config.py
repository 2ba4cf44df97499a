"""What an experiment may say about an ordinal output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import LinearOutputBase
from eir_seq.errors import Fault
from eir_seq.outputs.ordinal.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class OrdinalOutputConfig(LinearOutputBase):
    """One level out of several that have an order."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.CATEGORY
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.ordinal.output:Ordinal"
    REPORT: ClassVar[str] = "eir_seq.outputs.ordinal.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    AVERAGED: ClassVar[tuple[str, ...]] = ("kappa",)
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    TARGET: ClassVar[str] = "level"

    type: Literal["ordinal"] = "ordinal"
    order: list[str] | None = Field(
        None, description="levels from the lowest to the highest; by value if absent and all are numbers"
    )
    link: Literal["logit", "probit"] = Field(
        "logit", description="distribution of the noise around the score: logistic (proportional odds) or normal"
    )

    def columns(self) -> dict[str, Column]:
        """The column of the levels."""
        return {self.column: Column(self.COLUMN_TYPE, named=self.order is not None)}

    @property
    def class_column(self) -> str:
        """The column of the levels."""
        return self.column

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Too few levels, or one that is named twice."""
        del sections
        order = self.order or []
        if self.order is not None and len(order) < 2:
            yield Fault(f"outputs.{name}.order", f"{order} has fewer than two levels")
        if twice := next((level for level in order if order.count(level) > 1), None):
            yield Fault(f"outputs.{name}.order", f"names {twice!r} twice")
