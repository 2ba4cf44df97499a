"""One level out of several that have an order: a cumulative link model on the features (McCullagh 1980)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, by_chunks, exact_sum, ids_of, row_names, values_of
from eir_seq.outputs.classes.names import class_codes, class_name, listed, number_of, sorted_classes
from eir_seq.outputs.ordinal.config import OrdinalOutputConfig
from eir_seq.outputs.scored import Scored

SMALLEST_STEP = 1e-4
"""Added to each step between two cut points, so that every level keeps a probability."""


class OrdinalState(Strict):
    """The state of a fitted ordinal output, fitted on the training rows."""

    type: Literal["ordinal"] = "ordinal"
    name: str
    config: OrdinalOutputConfig
    levels: list[str] = Field(min_length=2, description="levels from the lowest to the highest")
    counts: list[int] = Field(description="training rows of each level")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({len(self.levels), len(set(self.levels)), len(self.counts)}) != 1:
            raise ValueError("levels and counts do not belong together")
        return self


class CumulativeLink(nn.Module):
    """Cut points minus a linear score: (batch, features) to (batch, levels - 1), ascending in each row.

    The first cut point is its own parameter, each further one a step (softplus) above the one before.

    Args:
        in_features: width of the features.
        cuts: where the cut points begin, ascending.
    """

    def __init__(self, in_features: int, cuts: Sequence[float]) -> None:
        super().__init__()
        self.score = nn.Linear(in_features, 1, bias=False)
        self.first = nn.Parameter(torch.tensor([cuts[0]]))
        steps = [max(high - low - SMALLEST_STEP, SMALLEST_STEP) for low, high in pairwise(cuts)]
        self.steps = nn.Parameter(torch.tensor([step + math.log(-math.expm1(-step)) for step in steps]))

    def forward(self, features: Tensor) -> Tensor:
        """Shape: ``(batch, features)`` to ``(batch, levels - 1)``, in single precision."""
        steps = functional.softplus(self.steps.float()) + SMALLEST_STEP
        cuts = torch.cat([self.first.float(), steps]).cumsum(dim=0)
        difference: Tensor = cuts - self.score(features).float()
        return difference


class FittedOrdinal(FittedOutput):
    """An ordinal output that knows its levels. Targets are their indices, (rows,)."""

    FITTED_FIELDS = ("levels",)
    BY_ROW = True
    config: OrdinalOutputConfig

    def __init__(self, state: OrdinalState) -> None:
        super().__init__(state)
        self.levels = state.levels
        self._index = {name: index for index, name in enumerate(state.levels)}

    @property
    def output_size(self) -> int:
        """One cut point less than levels."""
        return len(self.levels) - 1

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the level of each row."""
        return {f"{self.name}_true": [class_name(value) for value in rows[self.config.column]]}

    def review(self) -> list[str]:
        """Levels that no training row has."""
        lacking = [level for level, count in zip(self.levels, self._state.counts, strict=True) if not count]
        return [f"outputs.{self.name}: levels that no training row has: {listed(lacking)}"] if lacking else []

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows whose level is none of the order."""
        names = {row: class_name(value) for row, value in enumerate(rows[self.config.column]) if value is not None}
        where = f"in column {self.config.column!r} is not one of the levels"
        return {row: f"{name!r} {where}" for row, name in names.items() if name not in self._index}

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Indices of levels, LongTensor (rows,); raises `UserError` for values that are no level."""
        codes = class_codes(values_of(rows, self.config.column), self._index)
        if (codes < 0).any():
            names = [class_name(value) for value in rows[self.config.column]]
            _check_levels(names, self.levels, self.config.column, f"outputs.{self.name}.column", ids)
        return torch.from_numpy(codes)

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a `CumulativeLink` whose cut points begin at the shares of the training rows."""
        counts = [max(count, 0.1) for count in self._state.counts]  # a level without rows is one tenth of a row wide
        below = [sum(counts[: index + 1]) / sum(counts) for index in range(len(counts) - 1)]
        link = NormalDist().inv_cdf if self.config.link == "probit" else _logit
        return nn.Sequential(Dropout(self.config.dropout), CumulativeLink(in_features, [link(x) for x in below]))

    def log_probabilities(self, raw: Tensor) -> Tensor:
        """The log probability of each level, (rows, levels), of raw outputs (rows, levels - 1)."""
        ends = raw.new_full((len(raw), 1), torch.inf)
        high, low = torch.cat([raw, ends], dim=1), torch.cat([-ends, raw], dim=1)
        if self.config.link == "logit":
            # F(h) - F(l) = F(h) F(-l) (1 - exp(l - h)) of the logistic distribution, without cancellation.
            return functional.logsigmoid(high) + functional.logsigmoid(-low) + _log1m_exp(low - high)
        # In the upper tail the difference is that of the mirrored values, where log Φ is exact.
        upper = high + low > 0
        high, low = torch.where(upper, -low, high), torch.where(upper, -high, low)
        above: Tensor = torch.special.log_ndtr(high)
        return above + _log1m_exp(torch.special.log_ndtr(low) - above)

    def probabilities(self, raw: Tensor) -> Tensor:
        """The probability of each level, (rows, levels), in double precision."""
        return self.log_probabilities(raw.double()).exp()

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Negative log probability of each row's level, (batch,)."""
        return -self.log_probabilities(raw.float()).gather(1, target[:, None]).squeeze(1)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch, 1)."""
        return self.loss(raw, target)[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, quadratic kappa (Cohen 1968), MAE of ranks and accuracy of the most probable level, and Spearman.

        Spearman correlates true with expected ranks. Kappa and Spearman are absent where all rows are of one level,
        Spearman also where all predictions are the same.
        """
        from eir_seq.outputs.torchmetrics import multiclass_confusion_matrix, spearman_corrcoef

        probabilities = by_chunks(self.probabilities, raw)
        guess, expected = probabilities.argmax(dim=1), self._expected(probabilities)
        off = (guess - target).abs().double()
        values = {
            "loss": exact_sum(by_chunks(self.loss, raw, target)) / len(raw),
            "mae": float(off.mean()),
            "accuracy": float((off == 0).double().mean()),
        }
        if target.min() < target.max():
            confusion = multiclass_confusion_matrix(guess, target, len(self.levels)).double()
            ranks = torch.arange(len(self.levels), dtype=torch.float64)
            weights = (ranks[:, None] - ranks).square()
            by_accident = confusion.sum(dim=1)[:, None] * confusion.sum(dim=0) / len(raw)
            values["kappa"] = 1 - float((weights * confusion).sum() / (weights * by_accident).sum())
            if expected.min() < expected.max():
                spearman = spearman_corrcoef(expected, target.double())
                if spearman.isfinite():
                    values["spearman"] = float(spearman)
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Kappa and Spearman where all rows are of one level."""
        if target.min() < target.max():
            return {}
        level = self.levels[int(target[0])]
        reason = f"all {len(target):,} rows are of level {level!r}" if len(target) > 1 else "there is one row"
        return dict.fromkeys(("kappa", "spearman"), reason)

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Negative log probability of each row's level, (rows,)."""
        return by_chunks(lambda rows, of: self.loss(rows, of).double(), raw, target)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the most probable level, NAME_rank with the expected rank, counted from 1, and
        NAME_p(LEVEL) with the probability of each level."""
        probabilities = self.probabilities(raw.detach().cpu())
        columns: dict[str, list[Any]] = {
            self.name: [self.levels[index] for index in probabilities.argmax(dim=1).tolist()],
            f"{self.name}_rank": (self._expected(probabilities) + 1).tolist(),
        }
        for index, level in enumerate(self.levels):
            columns[f"{self.name}_p({level})"] = probabilities[:, index].tolist()
        return columns

    def scored(self) -> Scored:
        """The latent score, from the mean of the cut points: the higher, the higher the level."""
        return Scored([self.name], lambda raw, _: -raw.float().mean(dim=1, keepdim=True), "latent score")

    def describe(self) -> dict[str, Any]:
        """Levels with their training rows."""
        levels = dict(zip(self.levels, self._state.counts, strict=True))
        return {"type": "ordinal", "column": self.config.column, "levels": levels}

    @property
    def parts(self) -> Sequence[str]:
        """No metric is given for a single level."""
        return ()

    def _expected(self, probabilities: Tensor) -> Tensor:
        """The expected rank of each row, (rows,), counted from 0."""
        return probabilities @ torch.arange(len(self.levels), dtype=probabilities.dtype)


class Ordinal(Output):
    """An ordinal output as declared; `fit` counts the levels."""

    STATE = OrdinalState
    FITTED = FittedOrdinal
    config: OrdinalOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """The column, where the config lists the levels."""
        return () if self.config.order is None else (self.config.column,)

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows whose level is not in `order`."""
        levels = self.config.order or []

        @cache
        def reason(name: str) -> str:
            return f"{self.config.column!r} is {name!r}, not one of {', '.join(levels)}{nearest(name, levels)}"

        for row, value in enumerate(rows[self.config.column]):
            if value is not None and (name := class_name(value)) not in levels:
                yield row, reason(name)

    def fit(self, train_rows: TargetRows) -> FittedOrdinal:
        """The levels in order and their training rows.

        Raises:
            UserError: a value that is no level, fewer than two levels among the rows, or no order where not all levels
                are numbers.
        """
        names = [class_name(value) for value in train_rows[self.config.column]]
        found = Counter(names)
        place, column = f"outputs.{self.name}.column", self.config.column
        if len(found) < 2:
            only = f" ({next(iter(found))!r})" if found else ""
            raise UserError(
                Fault(place, f"column {column!r} has {len(found)} level{only} in the training rows; need 2")
            )
        if self.config.order is None:
            if any(number_of(name) is None for name in found):
                message = f"is missing; the levels of column {column!r} are {', '.join(map(repr, sorted(found)[:8]))}"
                raise UserError(Fault(f"outputs.{self.name}.order", f"{message}; list them from the lowest on"))
            levels = sorted_classes(found)
        else:
            levels = self.config.order
            _check_levels(names, levels, column, place, ids_of(train_rows))
        counts = [found[level] for level in levels]
        return FittedOrdinal(OrdinalState(name=self.name, config=self.config, levels=levels, counts=counts))


def _check_levels(
    names: Sequence[str], levels: Sequence[str], column: str, place: str, ids: Sequence[str] | None
) -> None:
    """Raise `UserError` for names that are no level."""
    unknown: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name not in levels:
            unknown.setdefault(name, []).append(row)
    if unknown:
        what, listed = f"in column {column!r} is not one of the levels", ", ".join(levels)
        raise UserError(
            *(
                Fault(place, f"{name!r} {what} ({listed}){nearest(name, levels)} ({row_names(rows, ids)})")
                for name, rows in unknown.items()
            )
        )


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _log1m_exp(x: Tensor) -> Tensor:
    """``log(1 - exp(x))`` of numbers below 0."""
    return torch.log(-torch.expm1(x))
