"""What every entry of ``inputs.NAME.tensors`` offers: it checks cells, is fitted, encodes rows and fills batches."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Content:
    """What is in the text column of a row: a text, or words; `xpaths`, one per word, where it is HTML."""

    text: str | None = None
    words: Sequence[str] | None = None
    xpaths: Sequence[str] | None = None


@dataclass(frozen=True)
class Places:
    """Where the tokens of a batch come from; every field is ``(batch, length)``.

    `origin` numbers the tokens of the text before truncation and `word` its words; both are -1 at special tokens, at
    those of the pair, and at padding. `mask` is True but at padding, `pair` at tokens of the pair.
    """

    input_ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    origin: NDArray[np.int64]
    word: NDArray[np.int64]
    pair: NDArray[np.bool_]


@dataclass(frozen=True)
class TensorSource(ABC):
    """One entry. Fields are plain values, so that `vars` is all that a bundle keeps of it.

    Attributes:
        tensors: transformers' inputs that it fills.
        per_word: whether the text column must hold words.
        reads_offsets: whether `encode` needs the characters that tokens cover.
        per_row: whether its tensors are those of a row, whatever its tokens are.
    """

    column: str | None

    tensors: ClassVar[tuple[str, ...]]
    per_word: ClassVar[bool] = False
    reads_offsets: ClassVar[bool] = False
    per_row: ClassVar[bool] = False

    def in_memory(self, value: Any) -> Any:
        """What Python code gives in place of a cell, see `FittedModality.in_memory`."""
        return value.tolist() if isinstance(value, np.ndarray) else value

    def resolve(self, cell: Any, folder: Path) -> Any:  # noqa: ARG002
        """The cell with files of `folder`, which holds the data file, found."""
        return cell

    @abstractmethod
    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """What is wrong with a cell, each as the end of a sentence that begins with the column's name."""

    def fit(self, cells: Iterable[Any], contents: Iterable[Content]) -> Self:  # noqa: ARG002
        """The source that has seen the training rows."""
        return self

    def derived_options(self) -> dict[str, Any]:
        """Options of the architecture that follow from what was fitted, unless the user gives them."""
        return {}

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """Encoded columns of some rows; `offsets` are (tokens, 2) characters per row where they are read."""
        return {}

    def others(self, cells: Sequence[Any]) -> NDArray[np.int32]:
        """Tokens that follow those of the text, ``(rows,)``."""
        return np.zeros(len(cells), np.int32)

    @abstractmethod
    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """The tensors of a batch, by their names in transformers."""

    def for_batches(self) -> Self:
        """What `collate` needs of it, which loader processes hold."""
        return self

    def state(self) -> dict[str, Any]:
        """All fields, for a bundle; ``type(self)(**state)`` gives an equal source."""
        return dict(vars(self))

    def describe(self) -> dict[str, Any]:
        """What `check` and the report say."""
        return {"column": self.column} if self.column is not None else {}


def per_token(
    encoded: RowSource,
    column: str,
    rows: Sequence[int],
    number: NDArray[np.int64],
    width: int,
    otherwise: Sequence[int],
) -> NDArray[np.int64]:
    """Values by `number` (batch, length), such as a word's, for each token: (batch, length, width).

    The column holds `width` values per number; where the number is -1, the values are those of `otherwise`.
    """
    filled = np.empty((*number.shape, width), np.int64)
    filled[:] = otherwise
    for index, values in enumerate(encoded.sequences(column, rows)):
        known = number[index] >= 0
        filled[index, known] = values.reshape(-1, width)[number[index, known]]
    return filled


def tensor(values: NDArray[Any]) -> Tensor:
    """The array as a tensor, without a copy."""
    return torch.from_numpy(values)


def is_whole(value: Any) -> bool:
    """Whether a value of a cell is an integer (files may hold it as a float)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def shown(value: Any) -> str:
    """A value of a cell for a message, short."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def count_problem(cell: Any, content: Content, what: str) -> str | None:
    """What is wrong with a list of one value per word, apart from the values."""
    if not isinstance(cell, list):
        return f"is {shown(cell)}, not a list of {what}"
    assert content.words is not None
    if len(cell) != len(content.words):
        return f"has {len(cell)} {what} for {len(content.words)} words"
    return None
