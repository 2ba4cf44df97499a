"""How the column of an output of arrays is read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eir_seq.modalities.array.preprocess import ArrayCells
from eir_seq.modalities.array_files import UNREADABLE, is_array_file, load_array, name_of, shape_text
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.file_cells import MOST
from eir_seq.modalities.files import missing


@dataclass
class TargetArrays(ArrayCells):
    """The column of arrays of an output."""

    SECTION: ClassVar[str] = "outputs"

    config: Any

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the array of a row."""
        try:
            others = "the model predicts" if self.is_fitted else MOST
            array = read_target(cell, self.config.loss == "categorical", self.shape, others)
        except ValueError as error:
            yield str(error)
        else:
            self.shape = array.shape


def read_target(
    cell: Any, of_classes: bool, shape: tuple[int, ...] | None = None, others: str = "the model predicts"
) -> NDArray[Any]:
    """The array of a cell: float32 with NaN where values are missing, or int64 of classes.

    Args:
        cell: as text, or as `ArrayCells.find` gave it.
        of_classes: whether values are integers.
        shape: that it must have.
        others: what has that shape, for messages.

    Raises:
        ValueError: there is no such array; the reason goes on after the name of the column.
    """
    if isinstance(cell, str):
        cell = parse_cell(cell)
    if isinstance(cell, str):
        raise ValueError(missing(cell))
    what = f"names {name_of(cell)}," if is_array_file(cell) else f"is {name_of(cell)},"
    try:
        array = load_array(cell)
        values = _classes(array) if of_classes else _numbers(array)
    except UNREADABLE as error:
        raise ValueError(f"{what} which cannot be read ({' '.join(str(error).split())[:120]})") from None
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} an array of {shape_text(array.shape)}; {others} {shape_text(shape)}")
    return values


def _numbers(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = np.asarray(array, np.float32)
    if np.isinf(values).any():
        raise ValueError("it has infinite values")
    return values


def _classes(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind == "f":
        wrong = array[~(np.abs(array) < 2**53) | (array != np.round(array))]
        if wrong.size:
            raise ValueError(f"it has the value {wrong.flat[0]:g}; classes (loss 'categorical') are integers")
    elif array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ValueError(f"it has the value {array.max()}, which is too large")
    return np.asarray(array, np.int64)
