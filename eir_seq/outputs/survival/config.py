"""What an experiment may say about a survival output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.strict import Positive, ignored
from eir_seq.errors import Fault
from eir_seq.outputs.survival.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Time = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Names = Annotated[list[str], Field(min_length=1)]


class SurvivalOutputConfig(HeadOutputBase):
    """Time until an event, or until a row was last seen without it (right censoring)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.survival.output:Survival"
    REPORT: ClassVar[str] = "eir_seq.outputs.survival.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    AVERAGED: ClassVar[tuple[str, ...]] = ("c_index",)
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    TARGET: ClassVar[str] = "time or event"

    type: Literal["survival"] = "survival"
    time: str | Names = Field(
        description="column of times: until the event or, without one, until the row was last seen; a list has one for "
        "each column of `event`"
    )
    event: str | Names = Field(
        description="column that says whether there was an event: 1 or 0, true or false, or with `causes` one of these "
        "or 0; a list has columns of several events"
    )
    causes: Annotated[list[str], Field(min_length=2)] | None = Field(
        None, description="names of competing events in the column `event`, of which a row has at most one"
    )
    model: Literal["cox", "discrete"] = Field(
        "cox",
        description="cox: proportional hazards by the partial likelihood of the rows of a batch (ties by Efron), "
        "baseline by Breslow on the training rows; discrete: a hazard for each interval of time",
    )
    bins: Positive = Field(
        10, description="intervals of `model: discrete`, between quantiles of the event times of the training rows"
    )
    times: Annotated[list[Time], Field(min_length=1)] | None = Field(
        None,
        description="times of which survival is predicted; by default the deciles of the event times of the training "
        "rows",
    )
    horizon: Time | None = Field(
        None,
        description="time until which the risk is predicted; by default the median of the event times of the training "
        "rows",
    )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Columns of time and event; with several causes they share one."""
        events = [self.event] if isinstance(self.event, str) else self.event
        times = [self.time] * len(events) if isinstance(self.time, str) else self.time
        return list(zip(times, events, strict=True))

    @property
    def names(self) -> list[str]:
        """Names of the events."""
        return self.causes or [event for _, event in self.pairs]

    def columns(self) -> dict[str, Column]:
        """Times and events."""
        times = [self.time] if isinstance(self.time, str) else self.time
        events = [self.event] if isinstance(self.event, str) else self.event
        found = {name: Column(ColumnType.NUMBER, "time") for name in times}
        return found | {name: Column(ColumnType.CATEGORY, "event", named=True) for name in events}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Columns that do not pair, and options that would have no effect."""
        place = f"outputs.{name}"
        times = [self.time] if isinstance(self.time, str) else self.time
        events = [self.event] if isinstance(self.event, str) else self.event
        if not isinstance(self.time, str) and len(times) != len(events):
            yield Fault(f"{place}.time", f"has {len(times)} columns, and event has {len(events)}; give one for each")
        for key, columns in (("time", times), ("event", events), ("causes", self.causes or [])):
            if twice := [column for number, column in enumerate(columns) if column in columns[:number]]:
                yield Fault(f"{place}.{key}", f"{twice[0]!r} is there twice")
        if both := set(events) & set(times):
            yield Fault(f"{place}.event", f"column {min(both)!r} holds the times already")
        if self.causes is not None and len(events) > 1:
            yield Fault(f"{place}.causes", "needs one column of events")
        if bad := [cause for cause in self.causes or [] if cause in CENSORED]:
            yield Fault(f"{place}.causes", f"{bad[0]!r} means that there was no event")
        if self.model == "cox":
            yield from ignored(place, self, "bins", "with model: cox")
        if sections.data is not None and self.model == "cox" and sections.data.batch_size == 1:
            yield Fault("data.batch_size", f"is 1; outputs.{name} (model: cox) compares the rows of a batch")

    @property
    def has_row_losses(self) -> bool:
        """A Cox model compares the rows of a batch, so that its rows cannot be mixed."""
        return self.model != "cox"

    @property
    def compares_rows(self) -> bool:
        """A Cox model does: the risk set is the rows of the batch."""
        return self.model == "cox"

    @property
    def calibrated_on_train(self) -> bool:
        """A Cox model gets its baseline hazard from the training rows."""
        return self.model == "cox"

    def unmeasured(self) -> dict[str, str]:
        """A Cox model has no baseline hazard before the end of training."""
        reason = "during training: the baseline hazard is that of the best weights; monitor c_index"
        return {"integrated_brier": reason} if self.model == "cox" else {}


CENSORED = ("0", "false", "no")
"""Names in a column of events, in lower case, that mean that there was none."""
EVENT = ("1", "true", "yes")
"""Those that mean that there was one."""
