"""Arrays of numbers or classes: read, standardized by the training rows, predicted, written as .npy files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.array.moments import Moments
from eir_seq.modalities.array.preprocess import grid_of
from eir_seq.modalities.array_files import name_of
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.outputs.array.cells import TargetArrays, read_target
from eir_seq.outputs.array.config import ArrayOutputConfig
from eir_seq.outputs.arrays.forms import IGNORED
from eir_seq.outputs.arrays.output import FittedGridOutput, GridState, stacked
from eir_seq.outputs.base import Output, TargetRows, ids_of, row_names
from eir_seq.outputs.files import FileCell

ROWS_AT_ONCE = 32
"""Rows that are in memory while means are measured."""
INTEGERS = (np.int8, np.int16, np.int32, np.int64)


class ArrayState(GridState):
    """The state of a fitted output of arrays."""

    type: Literal["array"] = "array"
    config: ArrayOutputConfig


class FittedArray(FittedGridOutput):
    """An output of arrays. Targets are float32 with NaN where a value is missing, or int16 indices of classes."""

    config: ArrayOutputConfig

    @property
    def of_classes(self) -> bool:
        """Whether elements are classes."""
        return self.config.loss == "categorical"

    @property
    def grid(self) -> Shape:
        """Channels, height and width."""
        return grid_of(self.shape, self.config.channels_first)

    @property
    def target_cells(self) -> TargetArrays:
        """How its column is read and checked."""
        return TargetArrays(self.name, self.config, self.shape, is_fitted=True)

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Shape: (rows, channels, height, width).

        Raises:
            UserError: an array cannot be read, has another shape, or classes that the training rows do not have.
        """
        arrays, problems = self._read(rows)
        if problems:
            place = min(problems)
            message = f"column {self.config.column!r} {problems[place]} ({row_names(sorted(problems), ids)})"
            raise UserError(Fault(f"outputs.{self.name}.column", message))
        return stacked(arrays, self.grid, np.int16 if self.of_classes else np.float32)

    def _read(self, rows: TargetRows) -> tuple[list[NDArray[Any]], dict[int, str]]:
        """The array of each row, and by position what is wrong with those of others."""
        arrays, problems = [], {}
        for place, cell in enumerate(rows[self.config.column]):
            if cell is None:
                continue
            try:
                array = read_target(cell, self.of_classes, self.shape)
                arrays.append(self._indices(array) if self.of_classes else array)
            except ValueError as error:
                problems[place] = str(error)
        return arrays, problems

    def _indices(self, array: NDArray[np.int64]) -> NDArray[np.int16]:
        """Indices of classes; raises `ValueError` for a class that is not known."""
        classes = np.array(self.classes)
        found = np.searchsorted(classes, array).clip(0, len(classes) - 1)
        ignored = np.isin(array, self.config.ignored_values)
        unknown = array[(classes[found] != array) & ~ignored]
        if unknown.size:
            hint = nearest(str(unknown.flat[0]), list(map(str, self.classes)))
            raise ValueError(f"has an element of class {unknown.flat[0]}, which no training row has{hint}")
        return np.where(ignored, IGNORED, found).astype(np.int16)

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows with an array of another shape, or with unknown classes."""
        _, problems = self._read(rows)
        return {place: f"{self.config.column!r} {problem}" for place, problem in problems.items()}

    def numbers(self, target: Tensor) -> Tensor:
        """The targets themselves."""
        return target.float()

    def restored(self, raw: Tensor) -> Tensor:
        """In the units of the target."""
        return self.scale.restored(raw)

    def value(self, predicted: Tensor) -> NDArray[Any]:
        """The array in the shape of the target: float32, or the smallest integers that hold all classes."""
        array = predicted.reshape(self.shape).cpu().numpy()
        if not self.of_classes:
            return array.astype(np.float32)
        ends = np.array([min(self.classes), max(self.classes)])
        kind = next(kind for kind in INTEGERS if (ends.astype(kind) == ends).all())
        named: NDArray[Any] = np.array(self.classes, kind)[array]
        return named

    def file(self, row: Any) -> FileCell:
        """A .npy file."""
        return FileCell(row, ".npy", npy)

    def names(self, rows: TargetRows) -> list[str]:
        """The files, or the first numbers."""
        return [name_of(parse_cell(cell) if isinstance(cell, str) else cell) for cell in rows[self.config.column]]

    def describe(self) -> dict[str, Any]:
        """Shape, loss, decoder, and scale or classes."""
        found: dict[str, Any] = {
            "type": "array",
            "column": self.config.column,
            "shape": list(self.shape),
            "loss": self.config.loss,
            "model": self.config.decoder,
            "unet_inputs": ", ".join(self.config.grid_inputs) or None,
        }
        if self.of_classes:
            return {**found, "classes": {str(name): count for name, count in self.state.classes.items()}}  # type: ignore[attr-defined]
        return {**found, "normalization": self.config.normalization}


class ArrayOutput(Output):
    """An output of arrays as declared; `fit` learns their shape, and their scale or classes."""

    STATE = ArrayState
    FITTED = FittedArray
    config: ArrayOutputConfig

    def fit(self, train_rows: TargetRows) -> FittedArray:
        """Measure the training rows, a few at a time.

        Raises:
            UserError: an array cannot be read or has another shape than the first; all values are the same or missing;
                there are too many classes.
        """
        if self.config.loss == "categorical":
            return self._fit_classes(train_rows)
        shape: tuple[int, ...] | None = None
        moments = Moments((0, 2, 3) if self.config.normalization == "channel" else (0,))
        lowest, highest = math.inf, -math.inf
        for arrays in self._batches(train_rows):
            shape = arrays.shape[1:]
            moments.add(arrays.reshape(len(arrays), *grid_of(shape, self.config.channels_first)))
            if not np.isnan(arrays).all():
                lowest, highest = min(lowest, float(np.nanmin(arrays))), max(highest, float(np.nanmax(arrays)))
        assert shape is not None, "there are training rows"
        if lowest > highest:
            self._refuse("has no value in any training row: all elements are missing (NaN)")
        if lowest == highest:
            self._refuse(f"is {lowest:g} everywhere in the training rows; nothing to learn")
        mean, deviation = moments.mean[0], moments.deviation[0]
        if self.config.normalization == "none":
            mean, deviation = np.zeros(1), np.ones(1)
        return FittedArray(
            ArrayState(
                name=self.name,
                config=self.config,
                shape=list(shape),
                mean=mean.astype(np.float32).flatten().tolist(),
                deviation=deviation.astype(np.float32).flatten().tolist(),
                least=lowest,
                greatest=highest,
            )
        )

    def _fit_classes(self, train_rows: TargetRows) -> FittedArray:
        counts: Counter[int] = Counter()
        shape: tuple[int, ...] = ()
        for arrays in self._batches(train_rows):
            shape = arrays.shape[1:]
            values, found = np.unique(arrays, return_counts=True)
            counts.update(dict(zip(values.tolist(), found.tolist(), strict=True)))
            if len(counts) > 2 * self.config.max_classes:
                break
        for value in self.config.ignored_values:
            counts.pop(value, None)
        if len(counts) < 2:
            only = f"is {next(iter(counts))} everywhere in the training rows" if counts else "has ignored values alone"
            self._refuse(f"{only}; nothing to learn")
        if len(counts) > self.config.max_classes:
            some = ", ".join(map(str, sorted(counts)[:5]))
            many = f"more than {self.config.max_classes} different values ({some}, ...)"
            self._refuse(f"has {many}; raise max_classes, or use loss mse if they are numbers")
        return FittedArray(
            ArrayState(
                name=self.name,
                config=self.config,
                shape=list(shape),
                mean=[0.0],
                deviation=[1.0],
                classes=dict(sorted(counts.items())),
            )
        )

    def _batches(self, rows: TargetRows) -> Iterator[NDArray[Any]]:
        """The arrays of all rows, a few at a time, (rows, *shape)."""
        shape: tuple[int, ...] | None = None
        cells, ids = rows[self.config.column], ids_of(rows)
        for start in range(0, len(cells), ROWS_AT_ONCE):
            arrays = []
            for place, cell in enumerate(cells[start : start + ROWS_AT_ONCE], start):
                try:
                    array = read_target(cell, self.config.loss == "categorical", shape, "the first one has")
                except ValueError as error:
                    self._refuse(f"{error} ({row_names([place], ids)})")
                shape = array.shape
                arrays.append(array)
            yield np.stack(arrays)

    def _refuse(self, problem: str) -> Any:
        raise UserError(Fault(f"outputs.{self.name}.column", f"column {self.config.column!r} {problem}"))


def npy(array: NDArray[Any]) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
