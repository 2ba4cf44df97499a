"""What every kind of output offers to training, evaluation and prediction."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError
from torch import Tensor, nn

from eir_seq.config.heads import of_earlier_version
from eir_seq.config.outputs import OutputBase
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.machine import writing
from eir_seq.outputs.scored import Scored
from eir_seq.registry import imported
from eir_seq.rows import Rows, Values

if TYPE_CHECKING:
    from eir_seq.modalities.encoders.layers.patches import Shape

SHOWN_IDS = 5
CHUNK = 4096
"""Rows whose temporary values are held at once."""
# Ids as `row_names` writes them.
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NAMED = re.compile(rf"\(rows? ((?:{_QUOTED})(?:, (?:{_QUOTED}))*)")


class TargetRows(Protocol):
    """What outputs need of rows: a column by its name."""

    def __getitem__(self, column: str, /) -> Sequence[Any]:
        """The values of one column, in row order."""
        ...


class FittedOutput(ABC):
    """An output that has seen the training rows: it knows its classes or the scale of its target.

    Args:
        state: what `save` writes; it has a `name` and a `config`.
    """

    FITTED_FIELDS: ClassVar[tuple[str, ...] | None] = None
    """Fields of the state that raw outputs depend on, such as the classes; None: all of them."""

    BY_ROW: ClassVar[bool] = False
    """Whether what `truth` and `decode` give of a row depends on it alone, so that tables are written in parts."""

    SAMPLE_ROWS: ClassVar[int] = 0
    """Rows of an evaluation of which the report shows `samples`, evenly spaced, and as many of the worst."""

    name: str
    config: OutputBase
    backbone_task: str | None = None
    """The task whose head the backbone is to be built with, where this output uses that one."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.name = state.name
        self.config = state.config

    @property
    def state(self) -> BaseModel:
        """All that `save` writes."""
        state: BaseModel = self._state
        return state

    def renamed(self, name: str, config: OutputBase) -> Self:
        """What was fitted, as the output `name` that has this config."""
        return type(self)(self.state.model_copy(update={"name": name, "config": config}))

    def same_state(self, other: FittedOutput) -> bool:
        """Whether raw outputs of `other`, of the same type, mean the same: its classes, its scale."""
        own, others = (part.state.model_dump(exclude={"name", "config", "type"}) for part in (self, other))
        fields = own.keys() | others.keys() if self.FITTED_FIELDS is None else set(self.FITTED_FIELDS)
        return all(own.get(name) == others.get(name) for name in fields)

    @property
    def input(self) -> str:
        """The input whose tokens are read, of an output that reads tokens."""
        chosen: str | None = getattr(self.config, "input", None)
        assert chosen is not None, "resolved before the output was built"
        return chosen

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Width of the head's raw output."""

    @property
    def target_cells(self) -> Any:
        """How its column is read and checked, of an output whose config has `CELLS`."""
        return imported(str(self.config.CELLS))(self.name, self.config)

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """Columns of true values for the table of predictions, as `decode` writes predicted ones; none by default."""
        del rows
        return {}

    @abstractmethod
    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """The columns of `config.columns()` as a tensor (rows, ...): class indices, or values in the loss's units.

        Raises:
            UserError: a class that the training rows do not have, or a value that is not a number; names the rows
                by `ids` (by position if absent).
        """

    def targets_of_texts(self, rows: int, text_bytes: Mapping[str, NDArray[Any]]) -> Tensor:
        """The targets, (rows, ...), of an output without columns: zeros, as its inputs hold what is to be found.

        Args:
            rows: how many there are.
            text_bytes: of inputs whose rows are blocks of texts, the UTF-8 bytes of text in each row, (rows,).
        """
        del text_bytes
        return torch.zeros(rows)

    def review(self) -> list[str]:
        """Warnings about the training rows, such as labels that none of them has."""
        return []

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows with a class that the training rows do not have, by position, and that it is unknown."""
        del rows
        return {}

    @abstractmethod
    def build_head(self, in_features: int) -> nn.Module:
        """Fused features (batch, in_features) to raw outputs (batch, output_size): dropout, then linear.

        Where the config `reads_tokens`, the head is called with `TokenStates` of that width instead.
        """

    def build_grid_head(self, in_features: int, grids: Mapping[str, Shape]) -> nn.Module:
        """Of an output with `grid_inputs`: ``head(features, target, rows, {input: values})`` to raw outputs.

        Args:
            in_features: width of the fused features.
            grids: channels, height and width of the values of each of these inputs.
        """
        raise AssertionError((self.config, in_features, grids))

    def load_published_head(self, head: nn.Module, encoder: nn.Module) -> None:
        """Start a new head from that of the checkpoint from which its input's encoder was loaded, if they are alike.

        Args:
            head: as `build_head` returned it, in place.
            encoder: of the input whose tokens it reads, with published weights where the config says so.
        """
        del head, encoder

    def build_state_head(self, sizes: Mapping[str, int], *, pretrained: bool) -> nn.Module:
        """Of an output with `state_inputs`: ``head({input: TokenStates}, target)`` to raw outputs (batch, output_size).

        Args:
            sizes: width of the states of each input.
            pretrained: load published weights, where there are any.
        """
        raise AssertionError((self.config, sizes, pretrained))

    def build_vector_head(self, sizes: Mapping[str, int], owners: Mapping[str, str]) -> nn.Module:
        """Of an output with `vector_inputs`: ``head({input: (batch, size)})`` to raw outputs (batch, output_size).

        Args:
            sizes: width of the vector of each input.
            owners: for each input the one whose encoder reads it.
        """
        raise AssertionError((self.config, sizes, owners))

    def embedding(self, head: nn.Module, source: str, vectors: Tensor) -> Tensor | None:
        """Vectors of an input, (rows, size), as its head compares them; None if it does not read that input."""
        del head, source, vectors
        return None

    @property
    def reads_contents(self) -> bool:
        """Whether `targets` depend on columns of inputs, too: rows have them also where they lack labels."""
        return False

    @abstractmethod
    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """What each row adds to the terms of the loss, (batch, terms), in single precision.

        The loss of any set of rows is the sum over terms of the term's sum over these rows, divided by the sum of what
        `loss_counts` gives for them. Class weights and weights of terms are inside, the output's loss weight is not.

        Where a loss compares rows (a partial likelihood), what a row adds depends on the other rows of the call:
        those of a micro-batch in training, all of them in an evaluation.
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

    def calibrated(self, raw: Tensor, target: Tensor) -> Self:
        """The output as `predict` uses it, calibrated on validation rows with the best weights; by default as it is.

        It is called once, when training is done, if `config.calibrated_by` names a key; what it chooses is part of the
        state that `save` writes. It depends on the arguments alone, so that a resumed run chooses the same. With
        `config.calibrated_on_train` it gets the training rows instead.

        Args:
            raw: raw outputs of the validation rows that have a target, (rows, output_size), on the CPU.
            target: their targets, (rows, ...).
        """
        del raw, target
        return self

    @property
    def parts(self) -> Collection[str]:
        """What may be in brackets after a metric of a single class, label or column."""
        found: Collection[str] = self.describe().get("classes", {})
        return found

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Metrics that these targets leave undefined whatever is predicted, each with the reason."""
        del target
        return {}

    @abstractmethod
    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """How wrong each row is, (rows,): the order in which a report lists its worst errors."""

    def samples(self, raw: Tensor, target: Tensor) -> dict[str, NDArray[Any]]:
        """Arrays by name that the report draws of a few rows, each (rows, ...): what is ``true`` and ``predicted``."""
        raise AssertionError((self, raw, target))

    @abstractmethod
    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """Prediction columns by name; the first has the output's name, shape of `raw`: (rows, output_size)."""

    def decode_rows(self, raw: Tensor, rows: Callable[[], TargetRows]) -> dict[str, list[Any]]:
        """As `decode`, for an output whose predictions are parts of what is in the columns of the rows."""
        del rows
        return self.decode(raw)

    def decode_beside(self, raw: Tensor) -> dict[str, list[Any]]:
        """Prediction columns next to what was generated for the rows; none by default."""
        del raw
        return {}

    def scored(self) -> Scored | None:
        """The scores that attributions explain; None for an output that has none."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the run's manifest and report say about this output."""

    def text_source(self, network: Any, inputs: Mapping[str, Any]) -> Any:
        """What it writes texts for rows with (`eir_seq.outputs.generation.source.TextSource`); None: it writes none.

        Args:
            network: the trained network.
            inputs: the fitted inputs.
        """
        del network, inputs

    def row_writer(self, network: Any, rows: Any, *, seed: int, all_rows: bool) -> Any:
        """What generates something else than texts for rows (`eir_seq.outputs.generation.writing.RowWriter`), or None.

        Args:
            network: the trained network.
            rows: of the split.
            seed: of what is drawn.
            all_rows: whether for all rows, or for as many as the config says.
        """
        del network, rows, seed, all_rows

    def measure_texts(self, written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
        """Metrics of generated texts, each with its reference; none by default."""
        del written, true
        return {}

    def writing_with(self, generation: Mapping[str, Any]) -> Self:
        """The same output with other options of `generate`."""
        options = self.config.generation_options
        assert options is not None, "it writes no texts"
        config = self.config.model_copy(update={"generation": {**options, **generation}})
        return self.renamed(self.name, config)

    def save(self, path: Path) -> None:
        """Write this output as JSON, atomically."""
        text = json.dumps(self.state.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with writing(path, partial):
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)


class Output(ABC):
    """An output as the config declares it.

    Args:
        name: that of `outputs.NAME`.
        config: its section.
    """

    STATE: ClassVar[type[BaseModel]]
    """What is saved of the fitted output; its `type` is that of the config."""
    FITTED: ClassVar[type[FittedOutput]]
    """The fitted output, made of that."""

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """What `faulty_rows` reads, of the columns of outputs and inputs; by default nothing is checked."""
        return ()

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Positions of rows whose target cannot be used, each with the column and the reason.

        They are found before the rows are divided into training, validation and test. A cell without a value (None) is
        no fault here.
        """
        del rows
        yield from ()

    def reading(self, columns: Mapping[str, Sequence[str]]) -> Self:
        """The same output, given the columns that each input reads."""
        del columns
        return self

    def fit(self, train_rows: TargetRows) -> FittedOutput:
        """Learn classes or scale from the target columns of the training rows; nothing else is looked at.

        By default there is nothing to learn.
        """
        del train_rows
        return type(self).FITTED(self.STATE(name=self.name, config=self.config))

    @classmethod
    def restore(cls, content: Mapping[str, Any], path: Path) -> FittedOutput:
        """The fitted output whose state was read from the file `path`; raises `UserError` if it is none."""
        try:
            state = TypeAdapter(cls.STATE).validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            raise UserError(Fault(str(path), f"is not a valid saved output: {where}: {first['msg']}")) from None
        return cls.FITTED(state)


def by_chunks(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """What a function of rows gives for all of them, computed for a few at a time: its copies stay small."""
    starts = range(0, max(1, len(rows[0])), CHUNK)
    return torch.cat([function(*(x[start : start + CHUNK] for x in rows)) for start in starts])


def exact_sum(values: Tensor) -> float:
    """The sum of all values, rounded once; few of them are Python objects at once."""
    starts = range(0, values.numel(), CHUNK)
    return math.fsum(value for start in starts for value in values.flatten()[start : start + CHUNK].tolist())


def values_of(rows: TargetRows, column: str) -> Sequence[Any]:
    """The values of a column; of rows in a table without Python objects for all of them."""
    return Values(rows.column(column)) if isinstance(rows, Rows) else rows[column]


def ids_of(rows: TargetRows) -> Sequence[Any] | None:
    """The ids of rows, for `row_names`; None where they have none."""
    try:
        return values_of(rows, "id")
    except KeyError:
        return None


def row_names(rows: Sequence[int], ids: Sequence[str] | None) -> str:
    """``row 'a', 'b' and 3 more``: the rows at these positions, by id where ids are given."""
    shown = ", ".join(repr(str(ids[row])) if ids is not None else str(row) for row in rows[:SHOWN_IDS])
    more = f" and {len(rows) - SHOWN_IDS} more" if len(rows) > SHOWN_IDS else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{more}"


def named_rows(message: str) -> list[str]:
    """The ids in what `row_names` gave, in parentheses within a message.

    >>> named_rows("5 is too much (" + row_names([0, 1], ["a", "it's"]) + "); at most 3")
    ['a', "it's"]
    """
    found = _NAMED.search(message)
    return [] if found is None else [ast.literal_eval(quoted) for quoted in re.findall(_QUOTED, found[1])]


def read_state(path: Path, kinds: Collection[str]) -> tuple[str, Mapping[str, Any]]:
    """The kind of the saved output at `path`, one of `kinds`, and its contents.

    Raises:
        UserError: the file is missing, truncated or was not written by eir_seq.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(Fault(str(path), f"cannot be read: {error.strerror}")) from None
    except ValueError:
        raise UserError(Fault(str(path), "is not a saved output (not JSON)")) from None
    kind = content.get("type") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(Fault(str(path), f"is not a saved output (its type is none of {', '.join(kinds)})"))
    return kind, {key: of_earlier_version(value) if key == "config" else value for key, value in content.items()}
