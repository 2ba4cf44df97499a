"""What an experiment may say about a duration output."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import LOSS, Metric
from eir_seq.config.outputs import OutputBase

FUNCTIONS = "eir_seq.outputs.duration.output"


class DurationOutputConfig(OutputBase):
    """Time until an event, with a constant hazard per row."""

    IMPLEMENTATION: ClassVar[str] = f"{FUNCTIONS}:Duration"
    METRICS: ClassVar[tuple[Metric, ...]] = (LOSS, Metric("c_index", "C-index", "max", function=f"{FUNCTIONS}:c_index"))

    type: Literal["duration"] = "duration"
    time: str = Field(description="column of times")
    event: str = Field(description="column that says whether there was an event: 1 or 0")

    def columns(self) -> dict[str, Column]:
        """The times and whether each ended with an event."""
        return {self.time: Column(ColumnType.NUMBER, "time"), self.event: Column(ColumnType.NUMBER, "event")}
