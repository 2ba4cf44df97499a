"""Any number of labels out of several: a binary decision for each, learned with binary cross-entropy."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, by_chunks, exact_sum, ids_of, row_names
from eir_seq.outputs.classes.names import class_name, listed, sorted_classes
from eir_seq.outputs.classes.ranking import auroc_and_average_precision
from eir_seq.outputs.classes.thresholds import best_shift
from eir_seq.outputs.multi_label.config import MultiLabelOutputConfig
from eir_seq.outputs.multi_label.metrics import METRICS
from eir_seq.outputs.scored import Scored

MAX_LABELS = 10_000
MAX_LABELS_LISTED = 100
"""Metrics of single labels are given for up to that many labels; beyond, only the averages."""
_OF_LABELS = tuple(metric.name for metric in METRICS if metric.per_class)


class MultiLabelState(Strict):
    """The state of a fitted multi-label output, fitted on the training rows."""

    type: Literal["multi_label"] = "multi_label"
    name: str
    config: MultiLabelOutputConfig
    labels: list[str] = Field(min_length=1, description="labels; their positions are the columns of targets")
    positives: list[int] = Field(description="training rows that have each label")
    negatives: list[int] = Field(description="training rows that do not have it")
    thresholds: list[float] | None = Field(
        None, description="probability from which each label is predicted, chosen on validation rows; 0.5 without"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lengths = {len(self.labels), len(set(self.labels)), len(self.positives), len(self.negatives)}
        if self.thresholds is not None:
            lengths.add(len(self.thresholds))
        if len(lengths) != 1:
            raise ValueError("labels, counts and thresholds do not belong together")
        return self


class FittedMultiLabel(FittedOutput):
    """A multi-label output that knows its labels.

    Targets are (rows, labels): 1 where a row has a label, 0 where it does not, NaN where that is not known. The loss is
    the mean over all cells that are known.
    """

    FITTED_FIELDS = ("labels",)
    BY_ROW = True
    config: MultiLabelOutputConfig

    def __init__(self, state: MultiLabelState) -> None:
        super().__init__(state)
        self.labels = state.labels
        self._index = {name: index for index, name in enumerate(state.labels)}
        weights = _weights(state)
        self._weights = None if weights is None else torch.tensor(weights)

    @property
    def output_size(self) -> int:
        """One logit per label."""
        return len(self.labels)

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the labels of each row as a JSON list.

        Where labels are columns, also NAME_unknown, with those of which a row has no value.
        """
        target = self.targets(rows)
        found = {f"{self.name}_true": [self._listed(row == 1) for row in target]}
        if self.config.names is not None:
            found[f"{self.name}_unknown"] = [self._listed(row.isnan()) for row in target]
        return found

    def review(self) -> list[str]:
        """Labels that no training row has, or that all have."""
        found = []
        for counts, whose in ((self._state.positives, "no training row has"), (self._state.negatives, "all have")):
            if labels := [label for label, count in zip(self.labels, counts, strict=True) if not count]:
                found.append(f"outputs.{self.name}: labels that {whose}: {listed(labels)}")
        return found

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows with a label that the training rows do not have."""
        if self.config.names is not None:
            return {}
        lists, _ = _lists(rows[self.config.targets[0]], self.config)
        column = self.config.column
        return {
            row: f"label {unknown[0]!r} of {column!r} is not one of the training rows"
            for row, labels in enumerate(lists)
            if (unknown := [label for label in labels if label not in self._index])
        }

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Which labels each row has, FloatTensor (rows, labels): 1, 0, or NaN for a cell without a value.

        Raises:
            UserError: labels that the training rows do not have, or cells that are no lists.
        """
        if self.config.names is not None:
            return torch.tensor([_cells(rows[column]) for column in self.labels]).T.contiguous()
        column, place = self.config.targets[0], f"outputs.{self.name}.column"
        lists = _read(rows[column], self.config, place, ids)
        unknown: dict[str, list[int]] = {}
        for row, labels in enumerate(lists):
            for label in labels:
                if label not in self._index:
                    unknown.setdefault(label, []).append(row)
        if unknown:
            raise UserError(
                *(
                    Fault(
                        place,
                        f"label {label!r} of {column!r} is not one of the training rows"
                        f"{nearest(label, self.labels)} ({row_names(found, ids)})",
                    )
                    for label, found in unknown.items()
                )
            )
        target = torch.zeros(len(lists), len(self.labels))
        for row, labels in enumerate(lists):
            target[row, [self._index[label] for label in labels]] = 1
        return target

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a linear layer whose bias starts at the (weighted) log odds of each label."""
        linear = nn.Linear(in_features, self.output_size)
        # A label that all rows have, or none, gets odds of one tenth of a row instead of a bias without bounds.
        odds = [
            max(yes, 0.1) / max(no, 0.1) for yes, no in zip(self._state.positives, self._state.negatives, strict=True)
        ]
        weights = [1.0] * len(odds) if self._weights is None else self._weights.tolist()
        with torch.no_grad():
            linear.bias.copy_(torch.tensor([math.log(x * max(w, 1e-3)) for x, w in zip(odds, weights, strict=True)]))
        return nn.Sequential(Dropout(self.config.dropout), linear)

    def cell_losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy of each cell, (batch, labels); 0 where the target is not known."""
        raw = raw.float()
        if self._weights is not None and self._weights.device != raw.device:
            self._weights = self._weights.to(raw.device)  # once, not at every step
        unknown = target.isnan()
        losses = functional.binary_cross_entropy_with_logits(
            raw, target.float().masked_fill(unknown, 0.0), pos_weight=self._weights, reduction="none"
        )
        return losses.masked_fill(unknown, 0.0)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The summed loss of each row's cells, (batch, 1)."""
        return self.cell_losses(raw, target).sum(dim=1, keepdim=True)

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The known cells of each row, (batch, 1)."""
        del inputs
        return (~target.isnan()).sum(dim=1, keepdim=True).float()

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, and of known cells F1, AUROC and average precision: means over labels (macro), over all cells (micro).

        Means take the labels for which the value is defined: F1 those that some row has or is predicted to have, the
        others those that some rows have and others have not. `exact_match` is the share of rows whose known cells are
        all right, `hamming` the share of cells that are wrong.
        """
        known, true = ~target.isnan(), target == 1
        predicted = by_chunks(self.decide, raw) & known
        hits = (predicted & true).sum(dim=0).double()
        there, guessed = true.sum(dim=0).double(), predicted.sum(dim=0).double()
        wrong = (predicted != true) & known
        values = {
            "loss": exact_sum(by_chunks(self.loss_terms, raw, target)) / max(int(known.sum()), 1),
            "exact_match": float((~wrong.any(dim=1)).double().mean()),
            "hamming": float(wrong.sum() / known.sum().clamp(min=1)),
        }
        by_label: dict[str, dict[int, float]] = {name: {} for name in _OF_LABELS}
        for index in range(len(self.labels)):
            of, yes, guess = float(hits[index]), float(there[index]), float(guessed[index])
            if yes + guess:
                by_label["f1"][index] = 2 * of / (yes + guess)
            if yes:
                by_label["recall"][index], by_label["precision"][index] = of / yes, of / guess if guess else 0.0
            cells = known[:, index]
            if 0 < yes < int(cells.sum()):
                areas = auroc_and_average_precision(raw[cells, index].double().sigmoid(), true[cells, index])
                by_label["auroc"][index], by_label["average_precision"][index] = areas
        for name in ("f1", "auroc", "average_precision"):
            if by_label[name]:
                values[name] = math.fsum(by_label[name].values()) / len(by_label[name])
        if there.sum() + guessed.sum():
            values["f1_micro"] = float(2 * hits.sum() / (there.sum() + guessed.sum()))
        if 0 < int(there.sum()) < int(known.sum()):
            areas = auroc_and_average_precision(raw[known].double().sigmoid(), true[known])
            values["auroc_micro"], values["average_precision_micro"] = areas
        if len(self.labels) <= MAX_LABELS_LISTED:
            for name, found in by_label.items():
                values |= {f"{name}({self.labels[index]})": value for index, value in found.items()}
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """AUROC and average precision of labels that all rows have, or none; what no row with a label defines."""
        known, there = (~target.isnan()).sum(dim=0).tolist(), (target == 1).sum(dim=0).tolist()
        found: dict[str, str] = {}
        contrast, listed = ("auroc", "average_precision"), len(self.labels) <= MAX_LABELS_LISTED
        for label, rows, yes in zip(self.labels, known, there, strict=True):
            metrics: tuple[str, ...]
            if not listed:
                metrics, reason = _OF_LABELS, f"metrics of single labels are given for up to {MAX_LABELS_LISTED} labels"
            elif not yes:
                metrics, reason = (*contrast, "precision", "recall"), f"no row has the label {label!r}"
            else:
                metrics = contrast if yes == rows else ()
                reason = (
                    f"all {rows:,} rows have the label {label!r}" if rows > 1 else f"one row has a value of {label!r}"
                )
            found |= {f"{metric}({label})": reason for metric in metrics}
        if all(yes in (0, rows) for rows, yes in zip(known, there, strict=True)):
            found |= dict.fromkeys(contrast, "of each label, all rows have it or none has")
        if sum(there) in (0, sum(known)):
            what = "no label" if not sum(there) else "all labels"
            found |= dict.fromkeys(("auroc_micro", "average_precision_micro"), f"the rows have {what}")
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """The mean binary cross-entropy of each row's known cells, (rows,), without weights."""

        def rows(raw: Tensor, target: Tensor) -> Tensor:
            known = ~target.isnan()
            losses = functional.binary_cross_entropy_with_logits(
                raw.double(), target.double().masked_fill(~known, 0.0), reduction="none"
            )
            return losses.masked_fill(~known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)

        return by_chunks(rows, raw, target)

    def decide(self, raw: Tensor) -> Tensor:
        """Which labels are predicted, (rows, labels): those whose probability is above their threshold."""
        if self._state.thresholds is None:
            return raw > 0
        return raw.double().sigmoid() > torch.tensor(self._state.thresholds, dtype=torch.float64)

    def calibrated(self, raw: Tensor, target: Tensor) -> Self:
        """With the threshold of each label that maximizes a metric on the validation rows.

        A label that all of these rows have, or none, keeps 0.5.
        """
        metric = self.config.thresholds
        if metric is None:
            return self
        thresholds = []
        for index in range(len(self.labels)):
            known = ~target[:, index].isnan()
            true, logits = target[known, index].long().numpy(), raw[known, index].double().numpy()
            shift = 0.0
            if 0 < true.sum() < len(true):
                scores = np.stack([np.zeros_like(logits), logits], axis=1)
                shift, _ = best_shift(scores, true, 1, metric, 1 if metric == "f1" else None)
            thresholds.append(1 / (1 + math.exp(min(shift, 700.0))))
        return type(self)(self._state.model_copy(update={"thresholds": thresholds}))

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the predicted labels as a JSON list, and NAME_p(LABEL) with each one's probability."""
        raw = raw.detach().cpu()
        columns: dict[str, list[Any]] = {self.name: [self._listed(row) for row in self.decide(raw)]}
        for index, label in enumerate(self.labels):
            columns[f"{self.name}_p({label})"] = raw[:, index].double().sigmoid().tolist()
        return columns

    def scored(self) -> Scored:
        """The log odds of each label."""
        return Scored(
            self.labels,
            lambda raw, labels: raw[:, labels].float(),
            "log odds of the label",
            predicted=self.decide,
            true=lambda target: target == 1,
        )

    def describe(self) -> dict[str, Any]:
        """Labels with the training rows that have them."""
        described: dict[str, Any] = {
            "type": "multi_label",
            "column": self.config.column,
            "classes": dict(zip(self.labels, self._state.positives, strict=True)),
        }
        if self._weights is not None:
            described["pos_weight"] = dict(zip(self.labels, self._weights.tolist(), strict=True))
        if self._state.thresholds is not None:
            described["thresholds"] = dict(zip(self.labels, self._state.thresholds, strict=True))
        return described

    def _listed(self, chosen: Tensor) -> str:
        return json.dumps([self.labels[index] for index in chosen.nonzero().flatten().tolist()], ensure_ascii=False)


class MultiLabel(Output):
    """A multi-label output as declared; `fit` learns the labels."""

    STATE = MultiLabelState
    FITTED = FittedMultiLabel
    config: MultiLabelOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """The column of lists, if labels are no columns."""
        return () if self.config.names is not None else (self.config.targets[0],)

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows whose cell is no list."""
        cells = rows[self.config.targets[0]]
        for row in _lists(cells, self.config)[1]:
            yield row, f"{self.config.column!r} {_no_list(cells[row], self.config)}"

    def fit(self, train_rows: TargetRows) -> FittedMultiLabel:
        """Labels (the columns, or those of the lists, sorted) and how many training rows have each.

        Raises:
            UserError: a cell is no list, there are no labels, none differs between rows, or `pos_weight` does not name
                labels.
        """
        place = f"outputs.{self.name}.{self.config.key}"
        if self.config.names is not None:
            labels = self.config.names
            cells = [_cells(train_rows[label]) for label in labels]
            positives = [sum(value == 1 for value in column) for column in cells]
            negatives = [sum(value == 0 for value in column) for column in cells]
        else:
            lists = _read(train_rows[self.config.targets[0]], self.config, place, ids_of(train_rows))
            found = Counter(label for row in lists for label in row)
            labels = sorted_classes(found)
            positives = [found[label] for label in labels]
            negatives = [len(lists) - found[label] for label in labels]
        if not any(yes and no for yes, no in zip(positives, negatives, strict=True)):
            what = "has no labels" if not labels else "has no label that some training rows have and others have not"
            raise UserError(Fault(place, f"{'target' if self.config.names else repr(self.config.column)} {what}"))
        if len(labels) > MAX_LABELS:
            message = f"column {self.config.column!r} has {len(labels):,} labels, of which there may be {MAX_LABELS:,}"
            raise UserError(Fault(place, message))
        if isinstance(self.config.pos_weight, dict):
            place = f"outputs.{self.name}.pos_weight"
            faults = [
                Fault(f"{place}.{name}", f"is not a label{nearest(name, labels)}")
                if name not in labels
                else Fault(f"{place}.{name}", f"{weight} is not a weight; it must be more than 0")
                for name, weight in self.config.pos_weight.items()
                if name not in labels or not weight > 0
            ]
            if faults:
                raise UserError(*faults)
        return FittedMultiLabel(
            MultiLabelState(name=self.name, config=self.config, labels=labels, positives=positives, negatives=negatives)
        )


def _weights(state: MultiLabelState) -> list[float] | None:
    """The weight of positive rows by label; 1 for a label that all training rows have, or none."""
    given = state.config.pos_weight
    if given is None:
        return None
    if given == "balanced":
        counts = zip(state.positives, state.negatives, strict=True)
        return [no / yes if yes and no else 1.0 for yes, no in counts]
    return [given.get(label, 1.0) for label in state.labels]


def _cells(values: Sequence[Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _read(
    cells: Sequence[Any], config: MultiLabelOutputConfig, place: str, ids: Sequence[str] | None
) -> list[list[str]]:
    """The labels of each row; raises `UserError` if a cell is no list."""
    lists, faulty = _lists(cells, config)
    if faulty:
        message = f"column {config.column!r} {_no_list(cells[faulty[0]], config)}"
        raise UserError(Fault(place, f"{message} ({row_names(faulty, ids)})"))
    return lists


def _no_list(cell: Any, config: MultiLabelOutputConfig) -> str:
    hint = "" if config.delimiter else "; for labels separated by a character, give delimiter"
    return f"is {str(cell)[:40]!r}, not a list of labels{hint}"


def _lists(cells: Sequence[Any], config: MultiLabelOutputConfig) -> tuple[list[list[str]], list[int]]:
    """The labels of each row, each once, and the rows whose cells are no lists of names (they have none)."""
    lists: list[list[str]] = []
    faulty = []
    for row, cell in enumerate(cells):
        try:
            found = _labels(cell, config.delimiter)
        except (ValueError, RecursionError):
            found = []
            faulty.append(row)
        lists.append(list(dict.fromkeys(found)))
    return lists, faulty


def _labels(cell: Any, delimiter: str | None) -> list[str]:
    """The labels that a cell holds: a JSON list, or texts between delimiters."""
    if cell is None:
        return []
    text = str(cell).strip()
    if delimiter is not None and not text.startswith("["):
        return [label for part in text.split(delimiter) if (label := part.strip())]
    values = json.loads(text)
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        raise ValueError("not a list of names")
    return [class_name(value) for value in values]
