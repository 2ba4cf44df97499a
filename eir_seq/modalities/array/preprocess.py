"""Arrays of numbers: read, checked, normalized by statistics of the training rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.array.config import ArrayInputConfig
from eir_seq.modalities.array.moments import Moments
from eir_seq.modalities.array_files import UNREADABLE, is_array_file, load_array, locate_array, name_of, shape_text
from eir_seq.modalities.base import STATE_FILE, FittedModality, Modality, RowSource, stacked
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.modalities.file_cells import MOST, FileCells, most_frequent
from eir_seq.modalities.files import missing
from eir_seq.randomness import Draw

if TYPE_CHECKING:
    from eir_seq.rows import Rows

VALUES = "values"
MOMENTS_FILE = "moments.safetensors"
ROWS_AT_ONCE = 32
"""Rows that are in memory while means are measured."""


@dataclass
class ArrayCells(FileCells):
    """How the column of arrays is read and checked. Most of the first ones decide the shape, or what was fitted."""

    name: str
    config: ArrayInputConfig
    shape: tuple[int, ...] | None = None
    is_fitted: bool = False

    def find(self, text: str, folder: Path) -> Any:
        """The array or the file that a cell names; raises `ValueError` with the reason where it names none."""
        return locate_array(parse_cell(text), folder, self.config.member)

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """The shape."""
        if self.shape is None:
            self.shape = most_frequent(map(_shape, cells))

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the array of a row."""
        if (problem := self._problem(cell)) is not None:
            yield problem

    def _problem(self, cell: Any) -> str | None:
        if isinstance(cell, str):
            return missing(cell)
        what = f"names {name_of(cell)}," if is_array_file(cell) else f"is {name_of(cell)},"
        try:
            array = load_array(cell)
            values = _as_float(array)
        except UNREADABLE as error:
            return f"{what} which cannot be read as an array ({' '.join(str(error).split())[:120]})"
        if self.shape is not None and array.shape != self.shape:
            others = "the model reads" if self.is_fitted else MOST
            return f"{what} an array of {shape_text(array.shape)}; {others} {shape_text(self.shape)}"
        if np.isinf(values).any():
            return f"{what} an array with infinite values"
        self.shape = array.shape
        return None


@dataclass(eq=False)
class FittedArray(FittedModality):
    """An input of arrays with mean and deviation, (channels or 1, height or 1, width or 1)."""

    name: str
    config: ArrayInputConfig
    shape: tuple[int, ...]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of arrays."""
        return (self.config.column,)

    @property
    def cells(self) -> ArrayCells:
        """How its column is read and checked."""
        return ArrayCells(self.name, self.config, self.shape, is_fitted=True)

    @property
    def grid(self) -> Shape:
        """Channels, height and width of what encoders read."""
        channels, height, width = grid_of(self.shape, self.config.channels_first)
        return channels * (1 + self.config.missing_mask), height, width

    @property
    def grid_tensor(self) -> tuple[str, Shape]:
        """What encoders read."""
        return VALUES, self.grid

    @property
    def collator(self) -> ArrayCollator:
        """Normalises, and fills what is missing."""
        grid = grid_of(self.shape, self.config.channels_first)
        normalizes = self.config.normalization != "none"
        return ArrayCollator(grid, self.mean, self.deviation, normalizes, self.config.missing_mask)

    def fingerprint(self) -> str:
        """Hash of the column and the shape: what is encoded are the values as they are."""
        return hashlib.sha256(f"array {self.config.column} {self.shape}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """The values as float32, NaN where they are missing.

        Raises:
            UserError: a file cannot be read any more, or has another shape.
        """
        return {VALUES: stacked(np.stack([read_array(cell, self.shape) for cell in rows[self.config.column]]))}

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """The names of the files, or the first numbers."""
        return [name_of(parse_cell(cell)) for cell in rows[self.config.column]]

    def describe(self) -> dict[str, Any]:
        """Shape, normalization and encoder."""
        return {
            "type": "array",
            "column": self.config.column,
            "shape": list(self.shape),
            "normalization": self.config.normalization,
            "model": self.config.model.model_type,
        }

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the moments into `folder`, which is made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {"name": self.name, "config": self.config.model_dump(mode="json"), "shape": list(self.shape)}
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        save_file({"mean": self.mean, "deviation": self.deviation}, folder / MOMENTS_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> FittedArray:
        """What `save` wrote; raises `UserError` if it is missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            moments = load_file(path.parent / MOMENTS_FILE)
            config = ArrayInputConfig.model_validate(state["config"])
            return cls(state["name"], config, tuple(state["shape"]), moments["mean"], moments["deviation"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(Fault(str(path), f"no fitted array input ({type(error).__name__}: {error})")) from None


class ArrayModality(Modality):
    """An input of arrays, as configured."""

    FITTED = FittedArray
    config: ArrayInputConfig

    def __init__(self, name: str, config: ArrayInputConfig) -> None:
        super().__init__(name, config)
        self._cells = ArrayCells(name, config)

    @property
    def cells(self) -> ArrayCells:
        """How its column is read and checked; the same for all splits, which have arrays of one shape."""
        return self._cells

    def fit(self, train_rows: Rows, seed: int) -> FittedArray:
        """Measure mean and deviation of the training rows, a few rows at a time.

        Raises:
            UserError: a file cannot be read any more, or has another shape than the first; all values are missing.
        """
        del seed
        config, column = self.config, train_rows.select_columns([self.config.column])
        shape = read_array(column[0][config.column]).shape
        grid = grid_of(shape, config.channels_first)
        moments = Moments((0, 2, 3) if config.normalization == "channel" else (0,))
        for start in range(0, column.num_rows, ROWS_AT_ONCE):
            cells = column.select(range(start, min(start + ROWS_AT_ONCE, column.num_rows)))[config.column]
            moments.add(np.stack([read_array(cell, shape) for cell in cells]).reshape(-1, *grid))
        if not np.any(moments.count):
            message = f"no training row has a value in column {config.column!r}: all of them are missing (NaN)"
            raise UserError(Fault(f"inputs.{self.name}.column", message))
        mean, deviation = (values[0].astype(np.float32) for values in (moments.mean, moments.deviation))
        return FittedArray(self.name, config, shape, mean, deviation)


@dataclass(frozen=True)
class ArrayCollator:
    """Values of rows to the tensor that encoders read.

    Args:
        grid: channels, height and width of an array.
        mean: see `FittedArray`.
        deviation: see there.
        normalizes: otherwise the mean only stands in for missing values.
        masks: whether channels follow that are 1 where a value is missing.
    """

    grid: Shape
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    normalizes: bool
    masks: bool

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`values`, (batch, channels, height, width)."""
        del draw
        given = encoded.arrays(VALUES, rows).reshape(len(rows), *self.grid)
        unknown = np.isnan(given)
        values = np.where(unknown, self.mean, given)
        if self.normalizes:
            values = (values - self.mean) / self.deviation
        if self.masks:
            values = np.concatenate((values, unknown.astype(np.float32)), axis=1)
        return {VALUES: torch.from_numpy(values)}


def grid_of(shape: tuple[int, ...], channels_first: bool | None) -> Shape:
    """Channels, height and width of an array; the height of a row of values is 1.

    >>> grid_of((100,), None), grid_of((4, 100), None), grid_of((4, 100), True), grid_of((2, 4, 100), None)
    ((1, 1, 100), (1, 4, 100), (4, 1, 100), (2, 4, 100))
    """
    if channels_first is None:
        channels_first = len(shape) == 3
    sides = shape if channels_first else (1, *shape)
    channels, *spatial = sides
    height, width = [1] * (2 - len(spatial)) + spatial
    return channels, height, width


def _shape(cell: Any) -> tuple[int, ...] | None:
    """That of the array of a cell, if there is one."""
    try:
        return None if isinstance(cell, str) else load_array(cell).shape
    except UNREADABLE:
        return None


def read_array(cell: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """The array of a cell as float32; raises `UserError` if there is none any more, or it has another shape."""
    value = parse_cell(cell)
    try:
        array = _as_float(load_array(value))
    except UNREADABLE as error:
        raise UserError(Fault(name_of(value), f"cannot be read as an array ({error})")) from error
    if shape is not None and array.shape != shape:
        message = f"is an array of {shape_text(array.shape)}, not of {shape_text(shape)}"
        raise UserError(Fault(name_of(value), message))
    return array


def _as_float(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return np.asarray(array, np.float32)
