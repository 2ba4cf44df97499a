"""The base of outputs that predict an array (channels, height, width) for each row."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.arrays.scale import Scale
from eir_seq.outputs.base import FittedOutput, TargetRows
from eir_seq.outputs.files import FileCell
from eir_seq.registry import imported

if TYPE_CHECKING:
    from eir_seq.outputs.generation.source import WritingNetwork
    from eir_seq.rows import Rows

VALUES_AT_ONCE = 1 << 22
"""Of rows that are measured together."""
MOST_SHOWN = 1 << 16
"""Values of a row that a report shows, about."""


class GridState(Strict):
    """The state of a fitted output, fitted on the training rows."""

    name: str
    shape: list[int] = Field(min_length=1, max_length=3, description="of the target")
    mean: list[float] = Field(min_length=1, description="of all values, or of each channel or element")
    deviation: list[float] = Field(min_length=1, description="likewise the standard deviation")
    least: float = Field(0.0, description="of all values")
    greatest: float = Field(1.0, description="of all values")
    classes: dict[int, int] = Field({}, description="of loss categorical: each value, and the elements that have it")


FORMS: dict[str, str] = {
    "mse": "eir_seq.outputs.arrays.forms:Numbers",
    "mae": "eir_seq.outputs.arrays.forms:Numbers",
    "categorical": "eir_seq.outputs.arrays.forms:Classes",
    "diffusion": "eir_seq.outputs.diffusion.form:Generated",
}
"""``module:Class`` of the form of each loss."""


class FittedGridOutput(FittedOutput):
    """An output of arrays or pictures that knows their shape, and their scale or classes.

    What raw outputs mean is up to its `form` (`Form`). Targets are (rows, channels,
    height, width) as they are stored; `numbers` gives their values.
    """

    SAMPLE_ROWS = 4
    config: Any

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.classes = list(state.classes)
        self.scale = Scale.of(self.grid, state.mean, state.deviation)
        self.form: Form = imported(FORMS[self.config.loss])(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target of a row."""
        return tuple(self._state.shape)

    @property
    @abstractmethod
    def grid(self) -> Shape:
        """Channels, height and width."""

    @abstractmethod
    def numbers(self, target: Tensor) -> Tensor:
        """Values of stored targets as floats in their own units, NaN where they lack."""

    @abstractmethod
    def restored(self, raw: Tensor) -> Tensor:
        """The inverse of `scale.standardized`, with values that are possible."""

    @abstractmethod
    def value(self, predicted: Tensor) -> Any:
        """What `Form.predicted` gave of a row, as Python code gets it: a NumPy array."""

    @abstractmethod
    def file(self, row: Any) -> FileCell:
        """The file of a prediction.

        Args:
            row: a function without arguments that gives `value`.
        """

    @property
    def output_size(self) -> int:
        """Values of the raw output of a row."""
        return math.prod(self.form.raw_grid)

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and the decoder: fused features (batch, in_features) to raw outputs (batch, *grid)."""
        return self.form.build_head(in_features)

    def build_grid_head(self, in_features: int, grids: Mapping[str, Shape]) -> nn.Module:
        """The same for a form whose decoder also reads values of inputs at their positions.

        Raises:
            UserError: an input whose values are in a row where the target has height, or the reverse.
        """
        faults = [
            Fault(
                f"outputs.{self.name}.diffusion.inputs",
                f"inputs.{name} has {height} x {width} positions, the target "
                f"{self.grid[1]} x {self.grid[2]}: a single row or column cannot be resized to several",
            )
            for name, (_, height, width) in grids.items()
            if (height > 1, width > 1) != (self.grid[1] > 1, self.grid[2] > 1)
        ]
        if faults:
            raise UserError(*faults)
        return self.form.build_head(in_features, grids)

    def build_state_head(self, sizes: Mapping[str, int], *, pretrained: bool) -> nn.Module:
        """The decoder that reads inputs: ``head({input: TokenStates}, target)`` to raw outputs (batch, *grid).

        Raises:
            UserError: an input has another height and width.
        """
        del pretrained
        decoder = imported(self.config.model.IMPLEMENTATION)
        head: nn.Module = decoder(self.config.model.model_init_config, sizes, self.form.raw_grid, self.name)
        return head

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Form.loss_terms`."""
        return self.form.loss_terms(raw, target)

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """See `Form.loss_counts`."""
        del inputs
        return self.form.loss_counts(target)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """The loss, and metrics of predictions where raw outputs are such."""
        values = {"loss": self.form.loss(raw, target)}
        return values | self.measured(raw, target) if self.form.PREDICTS else values

    def measured(self, predicted: Tensor, target: Tensor) -> dict[str, float]:
        """Metrics of what `Form.predicted` reads, (rows, *raw_grid), of those that these rows define."""
        return self.form.measure(predicted, target)

    def undefined(self, target: Tensor) -> dict[str, str]:
        """See `Form.undefined`."""
        return self.form.undefined(target)

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Form.errors`."""
        return self.form.errors(raw, target)

    def samples(self, raw: Tensor, target: Tensor) -> dict[str, NDArray[Any]]:
        """Values in the target's own units, or indices of classes, NaN where missing; large arrays subsampled."""
        height = self.grid[1]
        step = math.ceil(max(1.0, (math.prod(self.grid) / MOST_SHOWN) ** (1 if height == 1 else 0.5)))
        shown = {"true": self.form.true(target), "predicted": self.form.predicted(raw).float()}
        return {name: values[:, :, ::step, ::step].cpu().numpy() for name, values in shown.items()}

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """A file for each row."""
        return {self.name: self.cells(raw)} if self.form.PREDICTS else {}

    def cells(self, predicted: Tensor) -> list[FileCell]:
        """The files of predictions that are standardized, (rows, *grid), or of logits."""
        return [self.file(_Row(self, values)) for values in predicted]

    def writing_with(self, generation: Mapping[str, Any]) -> Self:
        """The same output, whose samples are drawn with other options; raises `UserError` for those there are not."""
        options = self.config.diffusion.sampling_with(generation, "generation")
        config = self.config.model_copy(update={"diffusion": options})
        return type(self)(self.state.model_copy(update={"config": config}))

    def row_writer(self, network: Any, rows: Any, *, seed: int, all_rows: bool) -> Any:
        """See `Form.row_writer`."""
        return self.form.row_writer(network, rows, seed=seed, all_rows=all_rows)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Least and greatest value of the training rows, standardized, each of the shape of the grid."""
        least, greatest = (
            self.scale.standardized(torch.full(self.grid, value)) for value in (self._state.least, self._state.greatest)
        )
        return least, greatest

    @abstractmethod
    def names(self, rows: TargetRows) -> list[str]:
        """The file of each row's target, or what is in its place, in readable form."""

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the file of each row's target."""
        return {f"{self.name}_true": self.names(rows)}


class _Row:
    """Makes the prediction of one row of its raw output, when it is asked for."""

    def __init__(self, output: FittedGridOutput, raw: Tensor) -> None:
        self.output, self.raw = output, raw

    def __call__(self) -> Any:
        return self.output.value(self.output.form.predicted(self.raw[None])[0])


def stacked(rows: Sequence[NDArray[Any]], shape: Sequence[int], dtype: type[np.generic]) -> Tensor:
    """Arrays of as many values, each of `shape`, as a tensor (rows, *shape)."""
    found = np.empty((len(rows), *shape), dtype)
    for place, row in enumerate(rows):
        found[place] = row.reshape(tuple(shape))
    return torch.from_numpy(found)


class Form(ABC):
    """How raw outputs (rows, *raw_grid) predict arrays, and are compared with targets (rows, channels, height, width).

    Args:
        output: the fitted output.
    """

    PREDICTS: ClassVar[bool] = True
    """Whether raw outputs are predictions; else these are drawn by the `row_writer`."""

    def __init__(self, output: FittedGridOutput) -> None:
        self.output = output

    @property
    @abstractmethod
    def raw_grid(self) -> Shape:
        """Shape of the raw output of a row."""

    def build_head(self, in_features: int, grids: Mapping[str, Shape] = MappingProxyType({})) -> nn.Module:
        """Dropout, then the decoder: fused features (batch, in_features) to (batch, *raw_grid).

        `grids`: channels, height and width of inputs that the decoder reads besides, where it does.
        """
        assert not grids, "rules"
        config = self.output.config
        decoder = imported(config.model.IMPLEMENTATION)(config.model.model_init_config, in_features, self.raw_grid)
        return nn.Sequential(Dropout(config.dropout), decoder)

    @abstractmethod
    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """What each row adds to each term of the loss, (batch, terms)."""

    @abstractmethod
    def loss_counts(self, target: Tensor) -> Tensor:
        """What each row adds to the divisor of each term, (batch, terms)."""

    @abstractmethod
    def measure(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """All metrics but the loss, of those that these rows define."""

    @abstractmethod
    def undefined(self, target: Tensor) -> dict[str, str]:
        """Metrics that these targets leave undefined, each with the reason."""

    @abstractmethod
    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """How wrong each row is, (rows,)."""

    @abstractmethod
    def predicted(self, raw: Tensor) -> Tensor:
        """What is predicted, (rows, channels, height, width), in the target's own units, or classes as indices."""

    def true(self, target: Tensor) -> Tensor:
        """The same of targets, as floats, NaN where there is none."""
        return self.output.numbers(target)

    def row_writer(self, network: WritingNetwork, rows: Rows, *, seed: int, all_rows: bool) -> Any:
        """See `FittedOutput.row_writer`."""
        del network, rows, seed, all_rows

    def loss(self, raw: Tensor, target: Tensor) -> float:
        """The loss of whole rows."""
        sums = [(self.loss_terms(*part).double().sum(0), self.loss_counts(part[1]).double().sum(0)) for part in
                parts(raw, target)]  # fmt: skip
        terms, counts = (torch.stack(found).sum(0) for found in zip(*sums, strict=True))
        return float((terms / counts.clamp_min(1)).sum())


def parts(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows, a few at a time, so that temporary values stay small."""
    count = max(1, VALUES_AT_ONCE // max(1, rows[0][:1].numel()))
    for start in range(0, len(rows[0]), count):
        yield tuple(values[start : start + count] for values in rows)
