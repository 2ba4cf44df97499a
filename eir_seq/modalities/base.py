"""What every kind of input offers: it is fitted on training rows, turns rows into tensors and builds its encoder."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from eir_seq.config.inputs import InputBase
from eir_seq.config.outputs import Conversation, DocumentLayout, OutputBase, Questions, TargetText
from eir_seq.config.schema import DataConfig
from eir_seq.randomness import Draw
from eir_seq.registry import imported

if TYPE_CHECKING:
    from eir_seq.modalities.attributable import Attributable
    from eir_seq.modalities.encoders.base import Encoder
    from eir_seq.modalities.encoders.layers.patches import Shape
    from eir_seq.rows import Rows
    from eir_seq.tokenizers.cache import TokenizerCache

LENGTH = "length"
"""The feature that says how long a row is, if rows have lengths: batches are made by it, and `data.max_tokens` counts
it."""
BYTES = "bytes"
"""The feature that says how many UTF-8 bytes of text a row stands for, where rows are blocks of texts."""
STATE_FILE = "input.json"
"""What a bundle holds of a fitted input; its `config` has the `type`."""
TOKENS = "tokens"
"""The feature that says how many tokens a row had before truncation, if it has tokens."""


class RowSource(Protocol):
    """Encoded rows, wherever they are stored: features by name, each of one dtype.

    A feature has one number per row, a sequence of any length per row, or an array of one shape per row.
    """

    @property
    def features(self) -> Collection[str]:
        """The available features."""

    def numbers(self, feature: str) -> NDArray[Any]:
        """One number per row, ``(rows,)``."""

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        """The sequences of these rows, each ``(length,)`` and read-only."""

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        """The arrays of these rows, ``(rows, *shape)``."""


def ragged(rows: Sequence[NDArray[Any]], dtype: Any = np.int32) -> pa.ListArray:
    """A feature with a sequence per row.

    >>> ragged([np.array([1, 2]), np.array([3])]).to_pylist()
    [[1, 2], [3]]
    """
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    values = np.concatenate(rows).astype(dtype, copy=False) if rows else np.empty(0, dtype)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def stacked(values: NDArray[Any]) -> pa.Array:
    """A feature with an array of the same shape per row, ``(rows, *shape)``, of any number type.

    >>> stacked(np.zeros((2, 3, 4), np.uint8)).type.shape
    [3, 4]
    """
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


class Collator(Protocol):
    """Makes the tensors of a batch out of encoded rows. Small and picklable: loader processes hold it."""

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """The encoder's arguments by name, each ``(batch, ...)``, in the order of `rows`."""


class Cells(Protocol):
    """How rows of an input are checked beyond the types of their columns."""

    @property
    def column(self) -> str:
        """The column of the text, or of what is in its place."""

    @property
    def places(self) -> dict[str, str]:
        """Columns that hold such cells, and the config key of each."""

    @property
    def checks_rows(self) -> bool:
        """Whether rows have to be checked beyond their texts."""

    @property
    def file_columns(self) -> frozenset[str]:
        """Columns whose cells change as their files are found."""

    def read(self, column: str, text: str | None, folder: Path) -> Any:
        """The value of a cell, its files found; raises `ValueError` with the reason where it is none."""

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """Decide by the values of the first rows what must be the same in all of them, such as a shape."""

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:
        """All that is wrong with a row: what is in its text column and the values of its other columns."""


class FittedModality(ABC):
    """An input that has seen the training rows: it turns rows into tensors and builds what reads them."""

    COSTS: ClassVar[tuple[str, ...]] = (LENGTH,)
    """Features whose sum is what a row costs, if it has them."""

    name: str
    config: InputBase

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The raw columns that `encode` reads."""

    @property
    def cells(self) -> Cells | None:
        """How rows are checked beyond the types of their columns."""
        return None

    def in_memory(self, column: str, value: Any) -> Any:
        """What Python code gives in place of a cell of one of `columns`, as a table holds it.

        Raises:
            ValueError: it is nothing of the kind; the reason goes on after the name of the column.
        """
        del column
        return value.tolist() if isinstance(value, np.ndarray) else value

    @property
    @abstractmethod
    def collator(self) -> Collator:
        """What makes the tensors of a batch."""

    def corrupted(self, output: OutputBase) -> Collator:
        """What makes the tensors of a batch for an output that restores corrupted texts."""
        raise AssertionError(f"rules keep a {output.type} output from other inputs than texts")

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that `encode` depends on; encoded rows are cached under it."""

    @abstractmethod
    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """Raw columns of some rows to features (see `ragged` and `stacked`), each chunk of rows with the same ones.

        `LENGTH` is among them where rows cost more the longer they are.
        """

    def encode_table(self, table: pa.Table) -> dict[str, pa.Array]:
        """The same of Arrow columns, without a Python object per cell where a kind overrides this."""
        return self.encode({name: table.column(name).to_pylist() for name in table.column_names})

    @property
    def grid_tensor(self) -> tuple[str, Shape] | None:
        """The tensor of its batches that holds values at positions, and their channels, height and width; None if none
        does."""
        return None

    def arrange(self, encoded: RowSource, ids: Sequence[str], split: str) -> tuple[RowSource, Sequence[str]]:
        """The rows that batches of a split are made of, and their ids; by default those of the data."""
        del split
        return encoded, ids

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about the encoded rows of a split; raises `UserError` if they cannot be used at all."""
        del encoded, split
        return []

    @abstractmethod
    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """What is in some rows, in readable form."""

    def thumbnails(self, rows: Mapping[str, Sequence[Any]]) -> list[bytes]:
        """A small PNG of each of some rows, for a report; empty where there is nothing to see."""
        del rows
        return []

    def show_arranged(self, rows: Rows, encoded: RowSource, places: Sequence[int]) -> list[str]:
        """What is in some of the rows that batches are made of, in readable form.

        Args:
            rows: of the data.
            encoded: what `arrange` made of them.
            places: which of them.
        """
        del encoded
        return self.show(rows.select(places).select_columns(list(self.columns))[:])

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What `check` and the report say about this input."""

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> nn.Module:
        """An `eir_seq.modalities.encoders.base.Encoder` of what the collator makes; by default the config's `model`.

        Any module with an `output_size` will do that gives (batch, output_size), where no fusion or output reads
        states. Without `pretrained` published weights are not loaded, because others will be put in their place.
        `task`: build the backbone with the head of that task, which an output uses.
        """
        encoder: type[Encoder] = imported(self.config.model.IMPLEMENTATION)  # type: ignore[attr-defined]
        return encoder.build(self, data, pretrained=pretrained, task=task)

    def attributable(self, encoder: nn.Module) -> Attributable | None:
        """What of its rows attributions are of, where its encoder reads vectors that can be varied; None by default."""
        del encoder
        return None

    def renamed(self, name: str, config: Any) -> Self:
        """What was fitted, as the input `name` that has this config."""
        found = copy.copy(self)
        found.name, found.config = name, config
        return found

    def same_state(self, other: Self) -> bool:
        """Whether `other`, of the same type, learned the same from its training rows, on which weights depend."""
        return other.renamed(self.name, self.config).fingerprint() == self.fingerprint()

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and what else was fitted, as JSON and safetensors, never as pickle."""


@dataclass(frozen=True)
class Purpose:
    """What an input is used for, which decides how a text is read.

    `layout`: it is the documents of a language model, in rows of tokens. `written`: the texts that a decoder learns to
    write from it. `sentinels`: tokens for gaps that a tokenizer gets which is trained here. `cache`: where its
    vocabulary is kept. `questions`: those about the texts. `conversation`: it is that, to be continued.
    """

    layout: DocumentLayout | None = None
    written: TargetText | None = None
    sentinels: int = 0
    cache: TokenizerCache | None = None
    questions: Questions | None = None
    conversation: Conversation | None = None


class Modality(ABC):
    """One kind of input, as configured."""

    FITTED: ClassVar[Any]
    """The fitted input; its `load` reads what its `save` wrote."""

    name: str
    config: Any

    def __init__(self, name: str, config: Any) -> None:
        self.name, self.config = name, config

    @classmethod
    def build(cls, name: str, config: Any, purpose: Purpose) -> Modality:
        """The input called `name`, not yet fitted; by default outputs do not change how it is read."""
        del purpose
        return cls(name, config)

    @classmethod
    def load(cls, folder: Path) -> FittedModality:
        """A fitted input that `FittedModality.save` wrote; raises `UserError` if files are missing or damaged."""
        fitted: FittedModality = cls.FITTED.load(folder)
        return fitted

    @property
    def cells(self) -> Cells | None:
        """How rows are checked beyond the types of their columns."""
        return None

    def adopting(self, fitted: Any) -> Modality:
        """The same input, which learns nothing itself: it takes what the fitted one of another run learned."""
        return Adopted(self, fitted)

    @abstractmethod
    def fit(self, train_rows: Rows, seed: int) -> FittedModality:
        """Learn from the training rows what encoding needs."""


class Adopted(Modality):
    """An input that takes what the one of another run learned.

    Args:
        modality: as configured.
        fitted: of the other run, of the same type.
    """

    def __init__(self, modality: Modality, fitted: FittedModality) -> None:
        super().__init__(modality.name, modality.config)
        self._modality, self._fitted = modality, fitted

    @property
    def cells(self) -> Cells | None:
        """As configured."""
        return self._modality.cells

    def fit(self, train_rows: Rows, seed: int) -> FittedModality:
        """What the other run fitted, under this name and config."""
        del train_rows, seed
        return self._fitted.renamed(self.name, self.config)
