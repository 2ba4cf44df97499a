"""What an experiment may say about a regression output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import ColumnsOutputBase, HeadOutputBase
from eir_seq.config.strict import Fraction, ignored
from eir_seq.errors import Fault
from eir_seq.outputs.regression.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class RegressionOutputConfig(HeadOutputBase, ColumnsOutputBase):
    """One real number, or several at once."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.NUMBER
    COLUMNS_TYPE: ClassVar[ColumnType] = ColumnType.NUMBER
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.regression.output:Regression"
    REPORT: ClassVar[str] = "eir_seq.outputs.regression.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    AVERAGED: ClassVar[tuple[str, ...]] = ("loss", "r2", "pearson")
    UNCERTAINTY_SCALE: ClassVar[float] = 0.5
    TARGET: ClassVar[str] = "number"

    type: Literal["regression"] = "regression"
    loss: Literal["mse", "mae", "smooth-l1", "huber", "poisson", "quantile", "gaussian"] = Field(
        "mse",
        description="squared error, absolute error, smooth L1, Huber loss, Poisson likelihood of a count, pinball loss "
        "of quantiles, or Gaussian likelihood with a standard deviation for each row",
    )
    delta: float = Field(
        1.0,
        gt=0,
        description="error beyond which smooth-l1 and huber are linear (in standard deviations if standardized)",
    )
    quantiles: list[Fraction] = Field(
        default=[0.1, 0.5, 0.9], description="quantiles that loss quantile predicts, in order, with 0.5 among them"
    )
    standardize: bool = Field(
        True,
        description="standardize the target by mean and standard deviation of the training rows; counts of loss "
        "poisson never are",
    )

    @property
    def standardized(self) -> bool:
        """Whether the target is standardized."""
        return self.standardize and self.loss != "poisson"

    def unmeasured(self) -> dict[str, str]:
        """Metrics of intervals, where none are predicted."""
        if self.loss in ("quantile", "gaussian"):
            return {}
        reason = f"with loss {self.loss!r}, which predicts no intervals"
        return dict.fromkeys(("coverage", "calibration_error", "interval_width"), reason)

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Columns, and options of losses that are not chosen."""
        del sections
        place = f"outputs.{name}"
        yield from self.column_faults(name)
        if self.loss not in ("smooth-l1", "huber"):
            yield from ignored(place, self, "delta", f"with loss {self.loss!r}")
        if self.loss != "quantile":
            yield from ignored(place, self, "quantiles", f"with loss {self.loss!r}")
        elif sorted(set(self.quantiles)) != self.quantiles or 0.5 not in self.quantiles or len(self.quantiles) < 2:
            message = f"{self.quantiles} are not in ascending order, each once, with 0.5 among them, as [0.1, 0.5, 0.9]"
            yield Fault(f"{place}.quantiles", message)
