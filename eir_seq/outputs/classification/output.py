"""One class out of several: softmax cross-entropy or focal loss over classes learned from the training rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.base import CHUNK, FittedOutput, Output, TargetRows, by_chunks, exact_sum, row_names, values_of
from eir_seq.outputs.classes.names import class_codes, class_name, listed, number_of, sorted_classes, threshold_metric
from eir_seq.outputs.classes.ranking import auroc_and_average_precision
from eir_seq.outputs.classes.thresholds import best_shifts
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.classification.metrics import METRICS
from eir_seq.outputs.scored import Scored

MAX_CLASSES_LISTED = 100
"""Metrics of single classes are given for up to that many classes; beyond, only the averages."""


COLUMNS = 8
"""Classes whose probabilities are held at once."""


class ClassificationState(Strict):
    """The state of a fitted classification output, fitted on the training rows."""

    type: Literal["classification"] = "classification"
    name: str
    config: ClassificationOutputConfig
    classes: list[str] = Field(min_length=2, description="class names; their positions are the class indices")
    counts: list[int] = Field(description="training rows of each class")
    weights: list[float] | None = Field(None, description="weight of each class; 1 on average over the training rows")
    thresholds: list[float] | None = Field(
        None,
        description="what a class's probability is divided by before the highest decides; chosen on validation rows",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lengths = {len(self.classes), len(set(self.classes)), len(self.counts)}
        lengths |= {len(found) for found in (self.weights, self.thresholds) if found is not None}
        if len(lengths) != 1:
            raise ValueError("classes, counts, weights and thresholds do not belong together")
        return self


class FittedClassification(FittedOutput):
    """A classification output that knows its classes.

    Class weights are scaled to a mean of 1 over the training rows, and the loss is a plain mean over rows. So the mean
    loss over all training rows is what ``torch.nn.functional.cross_entropy(..., weight, label_smoothing)`` gives for
    them in one batch, and does not depend on how rows meet in batches.
    """

    FITTED_FIELDS = ("classes",)
    BY_ROW = True

    config: ClassificationOutputConfig

    def __init__(self, state: ClassificationState) -> None:
        super().__init__(state)
        self.classes = state.classes
        self._index = {name: index for index, name in enumerate(state.classes)}
        self._weights = None if state.weights is None else torch.tensor(state.weights)
        self._costs = None if state.config.costs is None else _cost_matrix(state.config.costs, state.classes)

    @property
    def output_size(self) -> int:
        """One logit per class."""
        return len(self.classes)

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the class of each row."""
        return {f"{self.name}_true": self._names(rows)}

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows whose class the training rows do not have."""
        names = {row: class_name(value) for row, value in enumerate(rows[self.config.column]) if value is not None}
        column = self.config.column
        return {
            row: f"{name!r} in column {column!r} is not a class of the training rows"
            for row, name in names.items()
            if name not in self._index
        }

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Class indices, LongTensor (rows,).

        Raises:
            UserError: classes that the training rows do not have.
        """
        values = values_of(rows, self.config.column)
        codes = class_codes(values, self._index)
        unknown: dict[str, list[int]] = {}
        for row in np.flatnonzero(codes < 0).tolist():
            unknown.setdefault(class_name(values[row]), []).append(row)
        if unknown:
            place = f"outputs.{self.name}.column"
            raise UserError(
                *(Fault(place, self._unknown(name, row_names(found, ids))) for name, found in unknown.items())
            )
        return torch.from_numpy(codes)

    def _names(self, rows: TargetRows) -> list[str]:
        return [class_name(value) for value in rows[self.config.column]]

    def _unknown(self, name: str, rows: str) -> str:
        column, hint = self.config.column, nearest(name, self.classes)
        return (
            f"{name!r} in column {column!r} is not a class of the training rows{hint} ({rows}); "
            f"the classes are {listed(self.classes)}"
        )

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a linear layer whose bias starts at the log of the (weighted) class shares.

        The first loss is then the entropy of the classes, and rare classes do not begin with a large gradient
        (Lin et al. 2017, section 3.3). With loss bce it is the log odds of the shares.
        """
        linear = nn.Linear(in_features, self.output_size)
        shares = torch.tensor(self._state.counts, dtype=torch.float64)
        if self._state.weights is not None:
            shares = shares * torch.tensor(self._state.weights, dtype=torch.float64)
        # A class of weight 0 gets the share of one tenth of a row instead of a bias of minus infinity.
        shares = shares.clamp(min=0.1)
        shares = shares / shares.sum()
        with torch.no_grad():
            linear.bias.copy_(shares.logit() if self.config.loss == "bce" else shares.log())
        return nn.Sequential(Dropout(self.config.dropout), linear)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch,): weighted and smoothed cross-entropy as torch defines it, focal loss, or BCE.

        BCE is summed over classes, each against the rest, and weighted by the class of the row (Cui et al. 2019,
        "Class-Balanced Loss Based on Effective Number of Samples", equation 11).

        The focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection") multiplies the cross-entropy by
        (1 - p)^gamma, where p is the probability of the row's class.
        """
        raw = raw.float()
        if self._weights is not None and self._weights.device != raw.device:
            self._weights = self._weights.to(raw.device)  # once, not at every step
        if self.config.loss == "bce":
            smoothing = self.config.label_smoothing
            wanted = functional.one_hot(target, self.output_size) * (1 - smoothing) + smoothing / self.output_size
            rows = functional.binary_cross_entropy_with_logits(raw, wanted, reduction="none").sum(dim=1)
            return rows if self._weights is None else rows * self._weights[target]
        rows = functional.cross_entropy(
            raw, target, weight=self._weights, label_smoothing=self.config.label_smoothing, reduction="none"
        )
        if self.config.loss == "focal":
            # log(1 - p) from the other classes' logits: exact and differentiable also where p rounds to 1.
            others = raw.masked_fill(functional.one_hot(target, self.output_size).bool(), -torch.inf)
            log_rest = others.logsumexp(dim=1) - raw.logsumexp(dim=1)
            rows = rows * (self.config.focal_gamma * log_rest).exp()
        return rows

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch, 1)."""
        return self.loss(raw, target)[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, accuracy, balanced accuracy, F1, MCC, AUROC and average precision; the same per class.

        Averages over classes ("macro") take the classes for which the value is defined: recall (balanced accuracy)
        those among the rows, F1 those among the rows or the predictions, AUROC and average precision (each class
        against the rest) those that some rows have and others have not. MCC, AUROC and average precision are absent
        where all rows are of one class; MCC is 0 where all predictions are.
        """
        from eir_seq.outputs.torchmetrics import multiclass_confusion_matrix

        decide = (lambda rows: rows) if self._decides_by_probability else self.decide
        confusion = torch.zeros(self.output_size, self.output_size, dtype=torch.float64)
        for start in range(0, len(raw), CHUNK):
            chosen = slice(start, start + CHUNK)
            confusion += multiclass_confusion_matrix(decide(raw[chosen]), target[chosen], self.output_size)
        hits, true, predicted = confusion.diag(), confusion.sum(dim=1), confusion.sum(dim=0)
        recall, precision = hits / true, hits / predicted.clamp(min=1)
        f1 = 2 * hits / (true + predicted)
        present, total = true > 0, confusion.sum()
        values = {
            "loss": exact_sum(by_chunks(self.loss, raw, target)) / len(raw),
            "accuracy": float(hits.sum() / total),
            "balanced_accuracy": float(recall[present].mean()),
            "f1": float(f1[true + predicted > 0].mean()),
        }
        if self._costs is not None:
            values["cost"] = float((confusion * self._costs).sum() / total)
        mixed = present & (true < total)
        auroc, average_precision = {}, {}
        for first in range(0, self.output_size, COLUMNS):
            part = slice(first, first + COLUMNS)
            if not mixed[part].any():
                continue
            probabilities = by_chunks(lambda rows, part=part: self.probabilities(rows)[:, part].clone(), raw)
            for index in (mixed[part].nonzero().flatten() + first).tolist():
                areas = auroc_and_average_precision(probabilities[:, index - first], target == index)
                auroc[index], average_precision[index] = areas
        if mixed.any():
            # Gorodkin 2004; the usual formula for two classes.
            spread = (total**2 - predicted.square().sum()) * (total**2 - true.square().sum())
            agreement = hits.sum() * total - predicted @ true
            values["mcc"] = float(agreement / spread.sqrt()) if spread > 0 else 0.0
            values["auroc"] = sum(auroc.values()) / len(auroc)
            values["average_precision"] = sum(average_precision.values()) / len(average_precision)
        if self.output_size <= MAX_CLASSES_LISTED:
            for index in present.nonzero().flatten().tolist():
                name = self.classes[index]
                values[f"precision({name})"] = float(precision[index])
                values[f"recall({name})"] = float(recall[index])
                values[f"f1({name})"] = float(f1[index])
                if index in auroc:
                    values[f"auroc({name})"] = auroc[index]
                    values[f"average_precision({name})"] = average_precision[index]
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """MCC, AUROC and average precision of rows of one class, and metrics of classes that no row has."""
        found: dict[str, str] = {}
        of_contrast, total = ("auroc", "average_precision"), len(target)
        of_classes = tuple(metric.name for metric in METRICS if metric.per_class)
        for name, count in zip(self.classes, torch.bincount(target, minlength=self.output_size).tolist(), strict=True):
            only = f"all {total:,} rows are of class {name!r}" if total > 1 else f"there is one row, of class {name!r}"
            if count == total:
                found |= dict.fromkeys(("mcc", *of_contrast), only)
            if self.output_size > MAX_CLASSES_LISTED:
                metrics = of_classes
                reason = f"metrics of single classes are given for up to {MAX_CLASSES_LISTED} classes"
            elif count == 0:
                metrics, reason = of_classes, f"no row is of class {name!r}"
            else:
                metrics, reason = (of_contrast if count == total else ()), only
            found |= {f"{metric}({name})": reason for metric in metrics}
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Negative log probability of each row's class, (rows,), without weights and smoothing."""
        if self.config.loss == "bce":
            return by_chunks(
                lambda rows, of: -functional.logsigmoid(rows.double().gather(1, of[:, None]))[:, 0], raw, target
            )
        return by_chunks(lambda rows, of: functional.cross_entropy(rows.double(), of, reduction="none"), raw, target)

    def probabilities(self, raw: Tensor) -> Tensor:
        """The probability of each class, (rows, classes), in double precision."""
        return raw.double().sigmoid() if self.config.loss == "bce" else raw.double().softmax(dim=1)

    def decide(self, raw: Tensor) -> Tensor:
        """The predicted class of each row, (rows,): by costs, by thresholds, or the most probable one."""
        if self._costs is not None:
            return (self.probabilities(raw) @ self._costs.to(raw.device)).argmin(dim=1)
        if (thresholds := self._state.thresholds) is not None:
            return (self._scores(raw) - torch.tensor(thresholds, dtype=torch.float64).log()).argmax(dim=1)
        return raw.argmax(dim=1)

    def calibrated(self, raw: Tensor, target: Tensor) -> Self:
        """With the thresholds that maximize a metric on the validation rows."""
        if self.config.thresholds is None:
            return self
        wanted = threshold_metric(self.config.thresholds)
        assert wanted is not None, "checked before"
        metric, name = wanted
        of = None if name is None else self._index[name]
        shifts = best_shifts(by_chunks(self._scores, raw).numpy(), target.numpy(), metric, of)
        thresholds = torch.from_numpy(-shifts).softmax(dim=0).tolist()
        return type(self)(self._state.model_copy(update={"thresholds": thresholds}))

    @property
    def _decides_by_probability(self) -> bool:
        return self._costs is None and self._state.thresholds is None

    def _scores(self, raw: Tensor) -> Tensor:
        """Log probabilities, (rows, classes), in double precision."""
        raw = raw.double()
        return functional.logsigmoid(raw) if self.config.loss == "bce" else raw.log_softmax(dim=1)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the predicted class and a column NAME_p(CLASS) for each class's probability."""
        raw = raw.detach().to("cpu", torch.float64)
        probabilities = self.probabilities(raw)
        columns: dict[str, list[Any]] = {self.name: [self.classes[index] for index in self.decide(raw).tolist()]}
        for index, name in enumerate(self.classes):
            columns[f"{self.name}_p({name})"] = probabilities[:, index].tolist()
        return columns

    def scored(self) -> Scored:
        """The log odds of each class: what one class gains, the others lose."""
        return Scored(
            self.classes,
            self._log_odds,
            "log odds of the class",
            predicted=lambda raw: functional.one_hot(self.decide(raw), self.output_size).bool(),
            true=lambda target: functional.one_hot(target, self.output_size).bool(),
        )

    def _log_odds(self, raw: Tensor, classes: Sequence[int]) -> Tensor:
        raw = raw.float()
        if self.config.loss == "bce":
            return raw[:, classes]
        index = torch.tensor(classes, device=raw.device)
        others = torch.arange(self.output_size, device=raw.device) != index[:, None]
        return raw[:, classes] - raw[:, None].masked_fill(~others, -torch.inf).logsumexp(dim=2)

    def describe(self) -> dict[str, Any]:
        """Classes with their training rows and weights."""
        described: dict[str, Any] = {
            "type": "classification",
            "column": self.config.column,
            "classes": dict(zip(self.classes, self._state.counts, strict=True)),
        }
        if self._state.weights is not None:
            described["class_weights"] = dict(zip(self.classes, self._state.weights, strict=True))
        if self._state.thresholds is not None:
            described["thresholds"] = dict(zip(self.classes, self._state.thresholds, strict=True))
        return described


class Classification(Output):
    """A classification output as declared; `fit` learns the classes."""

    STATE = ClassificationState
    FITTED = FittedClassification
    config: ClassificationOutputConfig

    def fit(self, train_rows: TargetRows) -> FittedClassification:
        """Classes (sorted; by value where all are numbers), their counts and weights, from the training rows.

        Raises:
            UserError: fewer than two classes, one class per row, or class weights that do not name
                exactly the classes.
        """
        labels = values_of(train_rows, self.config.column)
        found = Counter(map(class_name, labels))
        place, column = f"outputs.{self.name}.column", self.config.column
        if len(found) < 2:
            only = f" ({next(iter(found))!r})" if found else ""
            raise UserError(
                Fault(place, f"column {column!r} has {len(found)} class{only} in the training rows; need 2")
            )
        if len(found) == len(labels) >= 20:
            hint = "; for numbers use type: regression" if all(number_of(name) is not None for name in found) else ""
            raise UserError(
                Fault(
                    place, f"column {column!r} has a different class on each of the {len(labels)} training rows{hint}"
                )
            )
        classes = sorted_classes(found)
        counts = [found[name] for name in classes]
        self._check_decisions(classes)
        state = ClassificationState(
            name=self.name,
            config=self.config,
            classes=classes,
            counts=counts,
            weights=self._weights(classes, counts),
        )
        return FittedClassification(state)

    def _weights(self, classes: list[str], counts: list[int]) -> list[float] | None:
        """Class weights, scaled so that their mean over the training rows is 1."""
        given = self.config.class_weights
        if given is None:
            return None
        if given == "balanced":
            given = {name: 1 / count for name, count in zip(classes, counts, strict=True)}
        elif given == "effective":
            beta = self.config.effective_beta
            given = {name: (1 - beta) / (1 - beta**count) for name, count in zip(classes, counts, strict=True)}
        place = f"outputs.{self.name}.class_weights"
        there = f"the classes are {listed(classes)}"
        faults = [
            Fault(f"{place}.{name}", f"not a class of column {self.config.column!r}{nearest(name, classes)}; {there}")
            for name in given
            if name not in classes
        ]
        faults += [
            Fault(f"{place}.{name}", f"{weight} is not a weight; it must be finite and at least 0")
            for name, weight in given.items()
            if name in classes and not (math.isfinite(weight) and weight >= 0)
        ]
        missing = [name for name in classes if name not in given]
        if missing:
            faults.append(Fault(place, f"no weight for {listed(missing)}; {there}"))
        if faults:
            raise UserError(*faults)
        total = sum(given[name] * count for name, count in zip(classes, counts, strict=True))
        if total == 0:
            raise UserError(Fault(place, "all weights are 0"))
        return [given[name] * sum(counts) / total for name in classes]

    def _check_decisions(self, classes: list[str]) -> None:
        """Raise `UserError` where costs or thresholds name what is no class."""
        named: dict[str, str] = {}
        for true, row in (self.config.costs or {}).items():
            named |= {f"costs.{true}": true} | {f"costs.{true}.{predicted}": predicted for predicted in row}
        wanted = None if self.config.thresholds is None else threshold_metric(self.config.thresholds)
        if wanted is not None and wanted[1] is not None:
            named["thresholds"] = wanted[1]
        faults = [
            Fault(
                f"outputs.{self.name}.{place}",
                f"{name!r} is not a class of column {self.config.column!r}{nearest(name, classes)}; "
                f"the classes are {listed(classes)}",
            )
            for place, name in named.items()
            if name not in classes
        ]
        faults += [
            Fault(f"outputs.{self.name}.costs.{true}.{predicted}", f"{cost} is not a cost; it must be at least 0")
            for true, row in (self.config.costs or {}).items()
            for predicted, cost in row.items()
            if not cost >= 0
        ]
        if faults:
            raise UserError(*faults)


def _cost_matrix(costs: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> Tensor:
    """The cost of each decision, (true classes, predicted classes)."""
    return torch.tensor(
        [[costs.get(true, {}).get(predicted, float(true != predicted)) for predicted in classes] for true in classes],
        dtype=torch.float64,
    )
