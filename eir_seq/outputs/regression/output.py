"""Real numbers: losses on the standardized targets, metrics in the original units."""

from __future__ import annotations

import math
import sys
import warnings
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, exact_sum, ids_of, row_names, values_of
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.outputs.regression.forms import Gaussian, form_of
from eir_seq.outputs.scored import Scored

MAX_TARGET = 1e30
"""Larger targets would overflow single precision."""
MAX_SCALED = 1e15
"""Targets in the loss's units; the squares of larger ones, and sums of these, would overflow single precision."""
MIN_TARGET = float(torch.finfo(torch.float32).tiny)
"""Smaller ones are 0 in single precision, or nearly so, unless they are standardized."""
ZERO = 1e-6
"""Share of the largest target below which one counts as 0: what single precision leaves of it."""

Numbers = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),  # earlier versions had one column
]


class RegressionState(Strict):
    """The state of a fitted regression output, fitted on the training rows."""

    type: Literal["regression"] = "regression"
    name: str
    config: RegressionOutputConfig
    rows: int = Field(ge=1, description="training rows")
    mean: Numbers = Field(description="mean of each column over the training rows")
    deviation: Numbers = Field(description="standard deviation of each column over them (divided by n)")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if {len(self.mean), len(self.deviation)} != {len(self.config.targets)} or min(self.deviation) < 0:
            raise ValueError("columns, means and deviations do not belong together")
        return self


class FittedRegression(FittedOutput):
    """A regression output that knows its scale. Losses and raw outputs are standardized where `standardized` is set.

    Raw outputs are (rows, columns * width) with the width of the `Form`. Targets are (rows,) of `column` and
    (rows, columns) of `columns`, NaN where a row has no value; the loss is the mean over the columns, each the mean
    over the rows that have it.
    """

    FITTED_FIELDS = ("mean", "deviation")
    BY_ROW = True
    config: RegressionOutputConfig

    def __init__(self, state: RegressionState) -> None:
        super().__init__(state)
        self.form = form_of(state.config)
        self.columns = state.config.targets
        scaled = state.config.standardized
        self._offsets = state.mean if scaled else [0.0] * len(self.columns)
        self._scales = state.deviation if scaled else [1.0] * len(self.columns)

    @property
    def output_size(self) -> int:
        """The numbers of the form, for each column."""
        return len(self.columns) * self.form.width

    @property
    def parts(self) -> Collection[str]:
        """The columns, if there are several."""
        return self.columns if self._several else ()

    @property
    def _several(self) -> bool:
        return self.config.names is not None

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the target of each row; NAME_true(COLUMN) of several columns."""
        found = {}
        for column in self.columns:
            numbers = self._numbers(rows, column, None)
            found[self._label("_true", column)] = ["" if math.isnan(number) else number for number in numbers]
        return found

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """The target in the loss's units, FloatTensor (rows,), or (rows, columns) with NaN if there is none.

        Raises:
            UserError: a value is not a number, is negative where counts are wanted, or is so far from the training
                rows that its loss would overflow.
        """
        found = [self._scaled(index, rows, ids) for index in range(len(self.columns))]
        return torch.stack(found, dim=1) if self._several else found[0]

    def _scaled(self, index: int, rows: TargetRows, ids: Sequence[str] | None) -> Tensor:
        column = self.columns[index]
        numbers = self._numbers(rows, column, ids)
        exact = torch.from_numpy(np.array(numbers, np.float64))
        scaled = (exact - self._offsets[index]) / self._scales[index]
        far = (scaled.abs() > MAX_SCALED).nonzero().flatten().tolist()
        if far:
            units, standardized = "standard deviations from the mean of the training rows", self.config.standardized
            how = f"more than {MAX_SCALED:g} {units}" if standardized else f"more than {MAX_SCALED:g}"
            hint = "" if standardized else f"; outputs.{self.name}.standardize=true scales such numbers"
            what = f"{numbers[far[0]]!r} in column {column!r} is {how} ({row_names(far, ids)}){hint}"
            raise UserError(Fault(f"outputs.{self.name}.{self.config.key}", what))
        return scaled.float()

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a linear layer whose bias predicts mean and standard deviation of the training rows."""
        linear = nn.Linear(in_features, self.output_size)
        scales = zip(self._state.mean, self._state.deviation, self._offsets, self._scales, strict=True)
        start = [self.form.start((mean - offset) / scale, spread / scale) for mean, spread, offset, scale in scales]
        with torch.no_grad():
            linear.bias.copy_(torch.tensor(start, dtype=torch.float64).flatten())
        return nn.Sequential(Dropout(self.config.dropout), linear)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each column, (batch, columns), divided by the number of columns; 0 if there is no target."""
        raw, target = self._by_column(raw.float()), self._by_column(target.float()).squeeze(-1)
        absent = target.isnan()
        losses = self.form.losses(raw, target.masked_fill(absent, 0.0))
        return losses.masked_fill(absent, 0.0) / len(self.columns)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch,), summed over `loss_terms`."""
        return self.loss_terms(raw, target).sum(dim=1)

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """Which columns each row has, (batch, columns)."""
        del inputs
        return (~self._by_column(target).squeeze(-1).isnan()).float()

    def _by_column(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), len(self.columns), x.shape[1:].numel() // len(self.columns))

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, and in the target's own units MAE, RMSE, MAPE, R2, explained variance and correlations.

        Of several columns these are means over columns, and each one's own. R2 and explained variance are absent where
        the rows' targets are all the same, the correlations also where the predictions are, MAPE where a target is 0.
        With quantiles or Gaussians also the share of targets in the outermost interval (`coverage`), its mean width,
        and the mean difference between the levels and the shares of targets below them (`calibration_error`).
        """
        terms, counts = self.loss_terms(raw, target), self.loss_counts({}, target).sum(dim=0).tolist()
        losses = [exact_sum(terms[:, index]) / max(count, 1.0) for index, count in enumerate(counts)]
        columns = {column: self._measured(raw, target, index) for index, column in enumerate(self.columns)}
        if not self._several:
            return {"loss": losses[0], **columns[self.columns[0]]}
        values = {"loss": math.fsum(losses)}
        for metric in dict.fromkeys(metric for found in columns.values() for metric in found):
            shown = [found[metric] for found in columns.values() if metric in found]
            values[metric] = math.fsum(shown) / len(shown)
        for column, found in columns.items():
            values |= {f"{metric}({column})": value for metric, value in found.items()}
        return values

    def _measured(self, raw: Tensor, target: Tensor, index: int) -> dict[str, float]:
        """The metrics of one column, of the rows that have it."""
        of_column, of_target = self._by_column(raw)[:, index], self._by_column(target)[:, index, 0]
        there = ~of_target.isnan()
        if not there.any():
            return {}
        of_column, true = of_column[there], self._restored(of_target[there], index)
        values = point_metrics(self._restored(self.form.centre(of_column), index), true)
        if self.form.levels:
            bounds = self._restored(self.form.bounds(of_column.double()), index)
            below = (true[:, None] <= bounds).double().mean(dim=0)
            values |= {
                "coverage": float(((true >= bounds[:, 0]) & (true <= bounds[:, -1])).double().mean()),
                "calibration_error": float((below - torch.tensor(self.form.levels, dtype=torch.float64)).abs().mean()),
                "interval_width": float((bounds[:, -1] - bounds[:, 0]).mean()),
            }
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """R2 and the correlations where all targets of a column are the same, MAPE where one is 0."""
        by_column = {}
        for index, column in enumerate(self.columns):
            values = self._by_column(target)[:, index, 0]
            by_column[column] = self._undefined(self._restored(values[~values.isnan()], index))
        if not self._several:
            return by_column[self.columns[0]]
        first = next(iter(by_column.values()))
        found = {metric: reason for metric, reason in first.items() if all(metric in of for of in by_column.values())}
        for column, of in by_column.items():
            found |= {f"{metric}({column})": reason for metric, reason in of.items()}
        return found

    def _undefined(self, true: Tensor) -> dict[str, str]:
        if not len(true):
            measured = self.config.metrics().keys() - {"loss"} - self.config.unmeasured().keys()
            return dict.fromkeys(sorted(measured), "no row has a value")
        found = {}
        if true.min() == true.max():
            reason = (
                f"the target of all {len(true):,} rows is {true[0].item():g}" if len(true) > 1 else "there is one row"
            )
            found = dict.fromkeys(("r2", "explained_variance", "pearson", "spearman"), reason)
        if _has_zero(true):
            found["mape"] = "a target is 0"
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Absolute error of each row in the target's own units, (rows,).

        Of several columns it is the mean of those that the row has, each in its standard deviations.
        """
        centres, target = self.form.centre(self._by_column(raw)), self._by_column(target).squeeze(-1)
        if not self._several:
            return (self._restored(centres[:, 0], 0) - self._restored(target[:, 0], 0)).abs()
        units = torch.tensor(self._state.deviation, dtype=torch.float64) / torch.tensor(self._scales)
        return ((centres.double() - target.double()).abs() / units.clamp(min=1e-300)).nanmean(dim=1)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the predicted value in the target's own units; NAME(COLUMN) of several columns.

        With quantiles also NAME_qLEVEL, with Gaussians the standard deviation in NAME_std.
        """
        columns: dict[str, list[Any]] = {}
        for index, column in enumerate(self.columns):
            of_column = self._by_column(raw.detach().cpu())[:, index]
            columns[self._label("", column)] = self._restored(self.form.centre(of_column), index).tolist()
            if isinstance(self.form, Gaussian):
                deviation = self.form.deviation(of_column.double()) * self._scales[index]
                columns[self._label("_std", column)] = deviation.tolist()
            elif self.form.levels:
                bounds = self._restored(self.form.bounds(of_column), index)
                for level, values in zip(self.form.levels, bounds.T, strict=True):
                    columns[self._label(f"_q{level:g}", column)] = values.tolist()
        return columns

    def scored(self) -> Scored:
        """The predicted value of each column in its own units."""
        return Scored(self.columns, self._values, "predicted value")

    def _values(self, raw: Tensor, columns: Sequence[int]) -> Tensor:
        by_column = self._by_column(raw.cpu())  # where there is double precision
        return torch.stack([self._restored(self.form.centre(by_column[:, index]), index) for index in columns], dim=1)

    def describe(self) -> dict[str, Any]:
        """Mean and standard deviation over the training rows."""
        described: dict[str, Any] = {"type": "regression"}
        scales = {
            column: {"mean": mean, "standard deviation": deviation}
            for column, mean, deviation in zip(self.columns, self._state.mean, self._state.deviation, strict=True)
        }
        if self._several:
            described["columns"] = scales
        else:
            described |= {"column": self.config.column, **scales[self.columns[0]]}
        if self.config.loss == "quantile":
            described["quantiles"] = list(self.form.levels)
        return described

    def _label(self, suffix: str, column: str) -> str:
        return f"{self.name}{suffix}({column})" if self._several else f"{self.name}{suffix}"

    def _numbers(self, rows: TargetRows, column: str, ids: Sequence[str] | None) -> array[float]:
        place = f"outputs.{self.name}.{self.config.key}"
        return _numbers(values_of(rows, column), place, column, ids, self.config)

    def _restored(self, scaled: Tensor, index: int) -> Tensor:
        return scaled.double() * self._scales[index] + self._offsets[index]


def point_metrics(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Metrics of predicted numbers in their own units, both (rows,) in double precision; undefined ones are absent.

    Example:
        >>> import torch
        >>> point_metrics(torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 4.0]).double())["mae"]
        1.0
    """
    from eir_seq.outputs.torchmetrics import (
        mean_absolute_error,
        mean_squared_error,
        pearson_corrcoef,
        spearman_corrcoef,
    )

    # A power of two changes no digit, and squares of what is measured in such units neither vanish nor overflow.
    spread = float((true - predicted).abs().max().maximum(true.max() - true.min()))
    unit = 2.0 ** max(math.frexp(spread)[1], -1000) if spread else 1.0
    zero = _has_zero(true)
    predicted, true = predicted / unit, true / unit
    values = {
        "mae": float(mean_absolute_error(predicted, true)) * unit,
        "rmse": float(mean_squared_error(predicted, true, squared=False)) * unit,
    }
    if not zero:
        values["mape"] = float(((true - predicted) / true).abs().mean())
    if true.min() < true.max():
        residual, variance = true - predicted, (true - true.mean()).square().sum()
        values["r2"] = 1 - float(residual.square().sum() / variance)
        values["explained_variance"] = 1 - float((residual - residual.mean()).square().sum() / variance)
        if predicted.min() < predicted.max():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The variance of predictions or target is close to zero")
                correlations = {
                    "pearson": pearson_corrcoef(predicted, true),
                    "spearman": spearman_corrcoef(predicted, true),
                }
            # Predictions that differ by rounding only can still leave a correlation undefined.
            values |= {name: float(value) for name, value in correlations.items() if value.isfinite()}
    return values


def _has_zero(true: Tensor) -> bool:
    return bool((true.abs() <= ZERO * true.abs().max()).any())


class Regression(Output):
    """A regression output as declared; `fit` learns the scale of the target."""

    STATE = RegressionState
    FITTED = FittedRegression
    config: RegressionOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """Counts."""
        return tuple(self.config.targets) if self.config.loss == "poisson" else ()

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows with a negative count."""
        for column in self.config.targets:
            for row in _negative_counts(rows[column], self.config):
                yield row, f"{column!r} {_negative(rows[column][row])}"

    def fit(self, train_rows: TargetRows) -> FittedRegression:
        """Mean and standard deviation of each column over the training rows.

        Raises:
            UserError: a value is not a number, too large or too small; or all are the same and cannot be standardized.
        """
        scales: list[tuple[float, float]] = []
        faults: list[Fault] = []
        rows = 0
        for column in self.config.targets:
            values = values_of(train_rows, column)
            rows = len(values)
            try:
                scales.append(self._scale(values, column, ids_of(train_rows)))
            except UserError as error:
                faults += error.faults
        if faults:
            raise UserError(*faults)
        means, deviations = map(list, zip(*scales, strict=True))
        return FittedRegression(
            RegressionState(name=self.name, config=self.config, rows=rows, mean=means, deviation=deviations)
        )

    def _scale(self, given: Sequence[Any], column: str, ids: Sequence[str] | None) -> tuple[float, float]:
        """Mean and standard deviation of one column."""
        place, standardized = f"outputs.{self.name}.{self.config.key}", self.config.standardized
        numbers = _numbers(given, place, column, ids, self.config)
        values = array("d", (value for value in numbers if not math.isnan(value)))
        if not values:
            raise UserError(Fault(place, f"column {column!r} has no training rows"))
        if min(values) == max(values):
            raise UserError(
                Fault(place, f"column {column!r} is {values[0]:g} on all {len(values)} training rows; nothing to learn")
            )
        mean = math.fsum(values) / len(values)
        largest = max(abs(value - mean) for value in values)  # whose square, and those of others, may be 0
        unit = largest or 1.0
        deviation = unit * math.sqrt(math.fsum(((value - mean) / unit) ** 2 for value in values) / len(values))
        if standardized and deviation < sys.float_info.min:
            message = f"column {column!r} has values that differ by less than {sys.float_info.min:.3g}; rescale them"
            raise UserError(Fault(place, message))
        small = [row for row, value in enumerate(numbers) if 0 < abs(value) < MIN_TARGET]
        if small and not standardized:
            message = f"column {column!r} has {numbers[small[0]]!r}, which single precision takes for 0"
            hint = f"outputs.{self.name}.standardize=true scales such numbers"
            raise UserError(Fault(place, f"{message} ({row_names(small, ids)}); {hint}"))
        return mean, deviation


def _numbers(
    values: Sequence[Any], place: str, column: str, ids: Sequence[str] | None, config: RegressionOutputConfig
) -> array[float]:
    """The numbers that cells hold; NaN for one without a value, of several columns."""
    numbers, faulty = array("d"), []
    for row, value in enumerate(values):
        if value is None and config.names is not None:
            numbers.append(math.nan)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not abs(number) <= MAX_TARGET:
            faulty.append(row)
        numbers.append(number)
    if faulty:
        what = f"{values[faulty[0]]!r} in column {column!r} is not a number of at most {MAX_TARGET:g}"
        raise UserError(Fault(place, f"{what} ({row_names(faulty, ids)})"))
    if negative := list(_negative_counts(numbers, config)):
        message = f"column {column!r} {_negative(numbers[negative[0]])} ({row_names(negative, ids)})"
        raise UserError(Fault(place, message))
    return numbers


def _negative_counts(values: Sequence[Any], config: RegressionOutputConfig) -> Iterator[int]:
    """Positions of values that are no counts, where counts are predicted."""
    if config.loss == "poisson":
        yield from (row for row, value in enumerate(values) if value is not None and value < 0)


def _negative(value: float) -> str:
    return f"is {value:g}, which no count is (loss 'poisson')"
