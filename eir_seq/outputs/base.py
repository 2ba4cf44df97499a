"""What every kind of output offers to training, evaluation and prediction."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.outputs import OutputConfig
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.files import read_json

State = TypeVar("State", bound=BaseModel)

SHOWN_IDS = 5


class Rows(Protocol):
    """The part of `datasets.Dataset` that outputs need: a column by its name."""

    def __getitem__(self, column: str) -> Sequence[Any]:
        """The values of one column, in row order."""
        ...


class FittedOutput(ABC):
    """An output that has seen the training rows: it knows its classes or the scale of its target."""

    name: str
    config: OutputConfig
    backbone_task: str | None = None
    """The task whose head the backbone is to be built with, where this output uses that one."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Width of the head's raw output."""

    @abstractmethod
    def canonical(self, values: Sequence[Any]) -> list[Any]:
        """The values of the target column in the form in which predictions are written (class names, floats)."""

    @abstractmethod
    def targets(self, values: Sequence[Any], ids: Sequence[str] | None = None) -> Tensor:
        """The target column as a tensor of shape (rows,): class indices, or the target in the loss's units.

        Raises:
            UserError: a class that the training rows do not have, or a value that is not a number; names the rows
                by `ids` (by position if absent).
        """

    @abstractmethod
    def build_head(self, in_features: int) -> nn.Module:
        """Fused features (batch, in_features) to raw outputs (batch, output_size): dropout, then linear.

        Where the config is a `TokenOutputBase`, the head is called with `TokenStates` of that width instead.
        """

    @abstractmethod
    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """What each row adds to the terms of the loss, (batch, terms), in single precision.

        The loss of any set of rows is the sum over terms of the term's sum over these rows, divided by the sum of what
        `loss_counts` gives for them. Class weights and weights of terms are inside, the output's loss weight is not.
        """

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """What each row adds to the divisor of each term of the loss, (batch, terms): its tokens, or 1 for itself.

        It depends on the batch alone, so that it is known before the forward pass: gradient accumulation divides every
        micro-batch by the counts of all rows of the optimizer step.

        Args:
            inputs: the collated tensors by input name, each (batch, ...).
            target: (batch, ...).
        """
        del inputs
        return torch.ones(len(target), 1)

    @abstractmethod
    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Metrics of whole rows: raw (rows, output_size), target (rows,), both on the CPU.

        A metric that these rows leave undefined is absent from the result; no value is ever nan.
        """

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Metrics that these targets leave undefined whatever is predicted, each with the reason."""
        del target
        return {}

    @abstractmethod
    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """How wrong each row is, (rows,): the order in which a report lists its worst errors."""

    @abstractmethod
    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """Prediction columns by name; the first has the output's name, shape of `raw`: (rows, output_size)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the run's manifest and report say about this output."""

    @property
    @abstractmethod
    def state(self) -> BaseModel:
        """All that `save` writes."""

    def metrics(self) -> OutputMetrics:
        """A fresh accumulator of this output's metrics."""
        return OutputMetrics(self)

    def save(self, path: Path) -> None:
        """Write this output as JSON, atomically."""
        text = json.dumps(self.state.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


class Output(Protocol):
    """An output as the config declares it."""

    name: str

    def fit(self, train_rows: Rows) -> FittedOutput:
        """Learn classes or scale from the target column of the training rows; nothing else is looked at."""
        ...


class OutputMetrics:
    """Gathers the raw outputs and targets of an evaluation on the CPU and computes the output's metrics at the end.

    Every metric is a function of all rows at once, so that it does not depend on how the rows were cut into batches.
    """

    def __init__(self, output: FittedOutput) -> None:
        self.output = output
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._raw: list[Tensor] = []
        self._target: list[Tensor] = []

    def update(self, raw: Tensor, target: Tensor) -> None:
        """Add a batch: raw (batch, output_size), target (batch,), on any device."""
        assert len(raw) == len(target), (raw.shape, target.shape)
        self._raw.append(raw.detach().to("cpu", torch.float32, copy=True))
        self._target.append(target.detach().to("cpu", copy=True))

    @property
    def raw(self) -> Tensor:
        """All raw outputs so far, (rows, output_size), in the order of the updates."""
        return join_rows(self._raw) if self._raw else torch.empty(0, self.output.output_size)

    @property
    def target(self) -> Tensor:
        """All targets so far, (rows,)."""
        return torch.cat(self._target) if self._target else torch.empty(0)

    def compute(self) -> dict[str, float]:
        """Metrics of all rows so far; empty without rows.

        Raises:
            RunFailed: a raw output is not finite.
        """
        raw, target = self.raw, self.target
        if not len(raw):
            return {}
        bad = int((~raw.isfinite()).flatten(1).any(dim=1).sum())
        if bad:
            raise RunFailed(
                f"outputs.{self.output.name}: the model's outputs are not finite on {bad} of {len(raw)} rows"
            )
        return self.output.evaluate(raw, target)


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Raw outputs of several batches; those with a place per word (batch, words, width) get zeros behind the last."""
    if parts[0].dim() == 3:
        widest = max(part.shape[1] for part in parts)
        parts = [functional.pad(part, (0, 0, 0, widest - part.shape[1])) for part in parts]
    return torch.cat(list(parts))


def row_names(rows: Sequence[int], ids: Sequence[str] | None) -> str:
    """``row 'a', 'b' and 3 more``: the rows at these positions, by id where ids are given."""
    shown = ", ".join(repr(ids[row]) if ids is not None else str(row) for row in rows[:SHOWN_IDS])
    more = f" and {len(rows) - SHOWN_IDS} more" if len(rows) > SHOWN_IDS else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{more}"


def read_state(path: Path, kinds: tuple[type[State], ...]) -> State:
    """The saved state at `path`, as the one of `kinds` that its contents fit.

    Raises:
        UserError: the file is missing, truncated or not one of ours.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(Fault(str(path), f"cannot be read: {error.strerror}")) from None
    except ValueError:
        raise UserError(Fault(str(path), "is not a saved output (not JSON)")) from None
    by_type = {kind.model_fields["type"].default: kind for kind in kinds}
    kind = by_type.get(content.get("type")) if isinstance(content, Mapping) else None
    if kind is None:
        raise UserError(Fault(str(path), f"is not a saved output (its type is none of {', '.join(by_type)})"))
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise UserError(Fault(str(path), f"is not a valid saved output: {where}: {first['msg']}")) from None
