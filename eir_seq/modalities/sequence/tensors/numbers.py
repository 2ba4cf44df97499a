"""Numbers of rows and of tokens: languages (xlm, flaubert), types of tasks (ernie), looks and sounds (roc_bert)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.base import RowSource, ragged
from eir_seq.modalities.sequence.tensors.base import Content, Places, TensorSource, is_whole, shown, tensor


@dataclass(frozen=True)
class Languages(TensorSource):
    """`langs`: the language of the row, or of each token's word; special tokens then have that of the next word.

    `lang2id` numbers the languages; where it is not given it is fitted. `value`: the language of every row.
    """

    value: str | None = None
    lang2id: Mapping[str, int] = field(default_factory=dict)

    tensors = ("langs",)

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """Languages that are none or, where they are given, none of them."""
        if isinstance(cell, list) and content.words is None:
            yield "has a list of languages; the text column must hold words (is_split_into_words: true)"
            return
        if isinstance(cell, list) and content.words is not None and len(cell) != len(content.words):
            yield f"has {len(cell)} languages for {len(content.words)} words"
            return
        for language in cell if isinstance(cell, list) else [cell]:
            if not isinstance(language, str):
                yield f"has {shown(language)}, not the name of a language"
            elif self.lang2id and language not in self.lang2id:
                listed = ", ".join(map(repr, list(self.lang2id)[:8])) + (", ..." if len(self.lang2id) > 8 else "")
                yield f"has the language {language!r}, not one of {listed}{nearest(language, self.lang2id)}"

    def fit(self, cells: Iterable[Any], contents: Iterable[Content]) -> Self:  # noqa: ARG002
        """The languages of the training rows in the order of the alphabet, unless they are given."""
        if self.lang2id:
            return self
        names = {self.value} if self.value is not None else {name for cell in cells for name in _as_list(cell)}
        return replace(self, lang2id={name: number for number, name in enumerate(sorted(filter(None, names)))})

    def derived_options(self) -> dict[str, Any]:
        """The number of languages; two at least, as fewer have no vectors."""
        return {"n_langs": max(2, len(self.lang2id))}

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """The number of the row's language, or -1 and one number per word."""
        if self.column is None:
            return {}
        if unknown := sorted({name for cell in cells for name in _as_list(cell)} - self.lang2id.keys()):
            close = nearest(unknown[0], self.lang2id)
            message = f"{unknown[0]!r} in column {self.column!r} is not a language of the training rows{close}"
            raise UserError(Fault("langs", message))
        numbers = [[-1] * isinstance(cell, list) + [self.lang2id[name] for name in _as_list(cell)] for cell in cells]
        return {"langs": ragged([np.array(row, np.int32) for row in numbers])}

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """`langs` (batch, length)."""
        langs = np.zeros(places.mask.shape, np.int64)
        if self.value is not None:
            langs[:] = self.lang2id[self.value]
            return {"langs": tensor(langs)}
        for index, numbers in enumerate(encoded.sequences("langs", rows)):
            langs[index] = numbers[0] if numbers[0] >= 0 else numbers[1:][_next_known(places.word[index])]
        return {"langs": tensor(langs)}

    def describe(self) -> dict[str, Any]:
        """The languages."""
        return {"column": self.column, "value": self.value, "languages": list(self.lang2id)}


@dataclass(frozen=True)
class TaskTypes(TensorSource):
    """`task_type_ids`: the type of a row at all of its tokens; below `count`."""

    value: int | None = None
    count: int = 3

    tensors = ("task_type_ids",)

    def problems(self, cell: Any, content: Content) -> Iterator[str]:  # noqa: ARG002
        """A type that is none."""
        if not _whole_text(cell) or not 0 <= int(cell) < self.count:
            yield f"has the type {shown(cell)}, not an integer from 0 to {self.count - 1} (task_type_vocab_size)"

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """One number per row."""
        return {} if self.column is None else {"task_types": ragged([np.array([int(cell)]) for cell in cells])}

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """`task_type_ids` (batch, length)."""
        types = np.full(places.mask.shape, self.value or 0, np.int64)
        if self.column is not None:
            types[:] = np.stack(encoded.sequences("task_types", rows))
        return {"task_type_ids": tensor(types)}


@dataclass(frozen=True)
class Signs(TensorSource):
    """`input_shape_ids` or `input_pronunciation_ids`: a number by token; special tokens have that of the unknown one.

    `name`: which of the two. `count`: rows of the model's table. `numbers`: that of each token id; `special`: of
    special tokens; `padding`: of padding.
    """

    name: str = "input_shape_ids"
    count: int = 0
    numbers: Sequence[int] = ()
    special: int = 0
    padding: int = 0

    @property
    def tensors(self) -> tuple[str, ...]:  # type: ignore[override]
        """The tensor."""
        return (self.name,)

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """None: there is no cell."""
        raise NotImplementedError

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:  # noqa: ARG002
        """The tensor, (batch, length)."""
        numbers = np.asarray(self.numbers, np.int64)[places.input_ids]
        numbers[(places.origin < 0) & places.mask] = self.special
        numbers[~places.mask] = self.padding
        return {self.name: tensor(numbers)}


def _as_list(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def _whole_text(cell: Any) -> bool:
    return is_whole(cell) or (isinstance(cell, str) and cell.strip().isdecimal())


def _next_known(words: Any) -> Any:
    """The number of the next word for every token that has none (after the last, the one before)."""
    known = np.flatnonzero(words >= 0)
    if not len(known):
        return np.zeros_like(words)
    following = np.searchsorted(known, np.arange(len(words))).clip(max=len(known) - 1)
    return words[known[following]]
