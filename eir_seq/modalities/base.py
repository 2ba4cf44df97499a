"""What every kind of input offers: it is fitted on training rows, turns rows into tensors and builds its encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from eir_seq.config.schema import DataConfig, InputConfig
from eir_seq.randomness import derive_seed, generator

if TYPE_CHECKING:
    from eir_seq.rows import Rows

LENGTH = "length"
"""The encoded column that says how long a row is; batches are made by it."""


@dataclass(frozen=True)
class Draw:
    """Random numbers of one pass over the rows, counted: the same row in the same epoch gets the same numbers.

    `epoch` is None outside training.
    """

    seed: int
    epoch: int | None = None

    def below(self, bound: int, *purpose: int | str) -> int:
        """A whole number from 0 to ``bound - 1`` for one purpose, e.g. an input's name and a row."""
        return derive_seed(self.seed, "draw", self._when, *purpose) % bound

    def generator(self, *purpose: int | str) -> np.random.Generator:
        """A numpy generator for one purpose."""
        return generator(self.seed, "draw", self._when, *purpose)

    @property
    def _when(self) -> int | str:
        return "evaluation" if self.epoch is None else self.epoch


class RowSource(Protocol):
    """Encoded rows, wherever they are stored."""

    def sequences(self, column: str, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        """The values of a column of sequences for these rows."""

    def numbers(self, column: str) -> NDArray[np.int32]:
        """A whole column of one number per row."""


class Collator(Protocol):
    """Makes the tensors of a batch out of encoded rows. Small and picklable: loader processes hold it."""

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """The encoder's arguments by name, each ``(batch, ...)``, in the order of `rows`."""


class Cells(Protocol):
    """How the columns of an input are read and checked that hold more than texts."""

    @property
    def config(self) -> InputConfig:
        """The input's config."""

    @property
    def places(self) -> dict[str, str]:
        """Columns that hold such cells, and the config key of each."""

    @property
    def is_demanding(self) -> bool:
        """Whether rows have to be checked beyond their texts."""

    @property
    def resolved(self) -> frozenset[str]:
        """Columns whose cells change as their files are found."""

    def read(self, column: str, text: str | None, folder: Path) -> Any:
        """The value of a cell, its files found; raises `ValueError` with the reason where it is none."""

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:
        """All that is wrong with a row: what stands in its text column and the values of its other columns."""


class FittedModality(Protocol):
    """An input that has seen the training rows."""

    name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that `encode` reads."""

    @property
    def cells(self) -> Cells:
        """How its columns are read and checked."""

    @property
    def collator(self) -> Collator:
        """What makes the tensors of a batch."""

    def fingerprint(self) -> str:
        """Hash of everything that `encode` depends on; encoded rows are cached under it."""

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """Raw columns of some rows to encoded columns, among them `LENGTH`."""

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about the encoded rows of a split; raises `UserError` where they cannot be used at all."""

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """What stands in some rows, for people."""

    def describe(self) -> dict[str, Any]:
        """What `check` and the report say about this input."""

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> nn.Module:
        """A module with `output_size`; called with a collated batch it gives ``(batch, output_size)``.

        Without `pretrained` published weights are not loaded, because others will be put in their place. `task`: build
        the backbone with the head of that task, which an output uses.
        """

    def save(self, folder: str | Path) -> None:
        """Write everything that was fitted, as JSON and the like, never as pickle."""


class Modality(Protocol):
    """One kind of input, as configured."""

    @property
    def cells(self) -> Cells:
        """How its columns are read and checked."""

    def fit(self, train_rows: Rows, seed: int) -> FittedModality:
        """Learn from the training rows what encoding needs."""
