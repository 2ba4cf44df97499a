"""One real number: squared, absolute or Huber loss on the standardized target, metrics in the original units."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.regression import (
    mean_absolute_error,
    mean_squared_error,
    pearson_corrcoef,
    spearman_corrcoef,
)

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.outputs.base import FittedOutput, Output, Rows, row_names
from eir_seq.outputs.regression.config import RegressionOutputConfig

_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}

MAX_TARGET = 1e30
"""Larger targets would overflow single precision."""
MAX_SCALED = 1e15
"""Targets in the loss's units; the squares of larger ones, and sums of these, would overflow single precision."""
MIN_TARGET = float(torch.finfo(torch.float32).tiny)
"""Smaller ones are 0 in single precision, or nearly so, unless they are standardized."""


class RegressionState(Strict):
    """What a fitted regression output remembers of the training rows."""

    type: Literal["regression"] = "regression"
    name: str
    config: RegressionOutputConfig
    rows: int = Field(ge=1, description="training rows")
    mean: float = Field(allow_inf_nan=False, description="mean of the target over the training rows")
    deviation: float = Field(ge=0, allow_inf_nan=False, description="its standard deviation over them (divided by n)")


class FittedRegression(FittedOutput):
    """A regression output that knows its scale. Loss and raw outputs are standardized where `standardize` is set."""

    config: RegressionOutputConfig

    def __init__(self, state: RegressionState) -> None:
        super().__init__(state)
        self._offset, self._scale = (state.mean, state.deviation) if state.config.standardize else (0.0, 1.0)

    @property
    def output_size(self) -> int:
        """One number."""
        return 1

    def truth(self, rows: Rows) -> dict[str, list[Any]]:
        """The column NAME_true with the target of each row."""
        return {f"{self.name}_true": self._numbers(rows, None)}

    def targets(self, rows: Rows, ids: Sequence[str] | None = None) -> Tensor:
        """The target in the loss's units, FloatTensor (rows,).

        Raises:
            UserError: a value is not a number, or so far from the training rows that its loss would overflow.
        """
        numbers = self._numbers(rows, ids)
        exact = torch.tensor(numbers, dtype=torch.float64)
        scaled = (exact - self._offset) / self._scale
        far = (~(scaled.abs() <= MAX_SCALED)).nonzero().flatten().tolist()
        if far:
            column, units = self.config.column, "standard deviations from the mean of the training rows"
            how = f"more than {MAX_SCALED:g} {units}" if self.config.standardize else f"more than {MAX_SCALED:g}"
            hint = "" if self.config.standardize else f"; outputs.{self.name}.standardize=true scales such numbers"
            what = f"{numbers[far[0]]!r} in column {column!r} is {how} ({row_names(far, ids)}){hint}"
            raise UserError(Fault(f"outputs.{self.name}.column", what))
        return scaled.float()

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a linear layer whose bias starts at the mean of the training rows (0 where standardized)."""
        linear = nn.Linear(in_features, 1)
        with torch.no_grad():
            linear.bias.fill_((self._state.mean - self._offset) / self._scale)
        return nn.Sequential(nn.Dropout(self.config.dropout), linear)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch,); the Huber loss is linear beyond one unit (one standard deviation)."""
        return _LOSSES[self.config.loss](raw.float().squeeze(1), target.float(), reduction="none")

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch, 1)."""
        return self.loss(raw, target)[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, and in the target's own units MAE, RMSE, R2, Pearson and Spearman correlation.

        R2 is absent where the rows' targets are all the same, the correlations also where the predictions are.
        """
        predicted, true = self._restored(raw.squeeze(1)), self._restored(target)
        # A power of two changes no digit, and squares of what is measured in such units neither vanish nor overflow.
        spread = float((true - predicted).abs().max().maximum(true.max() - true.min()))
        unit = 2.0 ** max(math.frexp(spread)[1], -1000) if spread else 1.0
        predicted, true = predicted / unit, true / unit
        values = {
            "loss": math.fsum(self.loss(raw, target).tolist()) / len(raw),
            "mae": float(mean_absolute_error(predicted, true)) * unit,
            "rmse": float(mean_squared_error(predicted, true, squared=False)) * unit,
        }
        if true.min() < true.max():
            values["r2"] = 1 - float((true - predicted).square().sum() / (true - true.mean()).square().sum())
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

    def undefined(self, target: Tensor) -> dict[str, str]:
        """R2 and the correlations where all targets are the same."""
        if target.min() < target.max():
            return {}
        value = self._restored(target[:1]).item()
        reason = f"the target of all {len(target):,} rows is {value:g}" if len(target) > 1 else "there is one row"
        return dict.fromkeys(("r2", "pearson", "spearman"), reason)

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Absolute error of each row in the target's own units, (rows,)."""
        return (self._restored(raw.squeeze(1)) - self._restored(target)).abs()

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the predicted value in the target's own units."""
        return {self.name: self._restored(raw.detach().cpu().squeeze(1)).tolist()}

    def describe(self) -> dict[str, Any]:
        """Mean and standard deviation over the training rows."""
        return {
            "type": "regression",
            "column": self.config.column,
            "mean": self._state.mean,
            "standard deviation": self._state.deviation,
        }

    def _numbers(self, rows: Rows, ids: Sequence[str] | None) -> list[float]:
        column = self.config.column
        return _numbers(rows[column], f"outputs.{self.name}.column", column, ids)

    def _restored(self, scaled: Tensor) -> Tensor:
        return scaled.double() * self._scale + self._offset


class Regression(Output):
    """A regression output as declared; `fit` learns the scale of the target."""

    STATE = RegressionState
    FITTED = FittedRegression
    config: RegressionOutputConfig

    def fit(self, train_rows: Rows) -> FittedRegression:
        """Mean and standard deviation of the target over the training rows.

        Raises:
            UserError: a value is not a number, too large or too small; or all are the same and cannot be standardized.
        """
        column, place = self.config.column, f"outputs.{self.name}.column"
        values = _numbers(list(train_rows[column]), place, column, _ids(train_rows))
        if not values:
            raise UserError(Fault(place, f"column {column!r} has no training rows"))
        if self.config.standardize and min(values) == max(values):
            raise UserError(
                Fault(place, f"column {column!r} is {values[0]:g} on all {len(values)} training rows; nothing to learn")
            )
        mean = math.fsum(values) / len(values)
        largest = max(abs(value - mean) for value in values)  # whose square, and those of others, may be 0
        unit = largest or 1.0
        deviation = unit * math.sqrt(math.fsum(((value - mean) / unit) ** 2 for value in values) / len(values))
        if self.config.standardize and deviation < sys.float_info.min:
            message = f"column {column!r} has values that differ by less than {sys.float_info.min:.3g}; rescale them"
            raise UserError(Fault(place, message))
        small = [row for row, value in enumerate(values) if 0 < abs(value) < MIN_TARGET]
        if small and not self.config.standardize:
            message = f"column {column!r} has {values[small[0]]!r}, which single precision takes for 0"
            hint = f"outputs.{self.name}.standardize=true scales such numbers"
            raise UserError(Fault(place, f"{message} ({row_names(small, _ids(train_rows))}); {hint}"))
        return FittedRegression(
            RegressionState(name=self.name, config=self.config, rows=len(values), mean=mean, deviation=deviation)
        )


def _ids(rows: Rows) -> Sequence[str] | None:
    """The ids of rows that have them."""
    try:
        return [str(value) for value in rows["id"]]
    except KeyError:
        return None


def _numbers(values: Sequence[Any], place: str, column: str, ids: Sequence[str] | None) -> list[float]:
    numbers, faulty = [], []
    for row, value in enumerate(values):
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
    return numbers
