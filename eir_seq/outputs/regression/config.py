"""What an experiment may say about a regression output."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import LinearOutputBase
from eir_seq.outputs.regression.metrics import HEADLINES, METRICS


class RegressionOutputConfig(LinearOutputBase):
    """One real number."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.NUMBER
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.regression.output:Regression"
    REPORT: ClassVar[str] = "eir_seq.outputs.regression.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    AVERAGED: ClassVar[tuple[str, ...]] = ("loss", "r2", "pearson")
    UNCERTAINTY_SCALE: ClassVar[float] = 0.5
    TARGET: ClassVar[str] = "number"

    type: Literal["regression"] = "regression"
    loss: Literal["mse", "mae", "huber"] = Field("mse", description="squared error, absolute error, or Huber loss")
    standardize: bool = Field(
        True, description="standardize the target by mean and standard deviation of the training rows"
    )
