"""Entities that a text mentions (luke)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource, ragged
from eir_seq.modalities.sequence.tensors.base import Content, Places, TensorSource, is_whole, shown, tensor

SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[MASK2]")
"""Entities of every vocabulary; a mention without a name is a [MASK]."""
_KEYS = {"start", "end", "name"}


@dataclass(frozen=True)
class Entities(TensorSource):
    """`entity_ids`, and of each entity the positions of its tokens, mask and segment.

    Entities of which truncation leaves any token out are dropped. `vocabulary` holds numbers by name: the published
    ones, or those of the training rows; `size` is the number of entities that the model has vectors for, None where it
    is made to fit.
    """

    min_freq: int = 1
    max_mention_length: int = 30
    size: int | None = None
    vocabulary: Mapping[str, int] = field(default_factory=dict)

    tensors = ("entity_ids", "entity_position_ids", "entity_attention_mask", "entity_token_type_ids")
    reads_offsets = True

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """Each entity that is none."""
        if not isinstance(cell, list):
            yield f"is {shown(cell)}, not a list of entities {{start, end, name}}"
            return
        assert content.text is not None
        for number, entity in enumerate(cell, 1):
            if not isinstance(entity, dict) or not {"start", "end"} <= entity.keys() <= _KEYS:
                yield f"has as entity {number} {shown(entity)}, not {{start, end, name}}"
            elif not (is_whole(entity["start"]) and is_whole(entity["end"])):
                yield f"has as entity {number} {shown(entity)}, whose start and end are not integers"
            elif not 0 <= entity["start"] < entity["end"] <= len(content.text):
                span = f"{shown(entity['start'])} to {shown(entity['end'])}"
                yield f"has as entity {number} the characters {span} of a text of {len(content.text)}"
            elif not isinstance(entity.get("name"), str | None):
                yield f"has as entity {number} the name {shown(entity['name'])}, not a text"

    def fit(self, cells: Iterable[Any], contents: Iterable[Content]) -> Self:  # noqa: ARG002
        """The vocabulary of the training rows, frequent names first, unless a published one is there."""
        if self.vocabulary:
            return self
        counts = Counter(entity["name"] for cell in cells for entity in cell if entity.get("name") is not None)
        names = sorted(
            (name for name, n in counts.items() if n >= self.min_freq), key=lambda name: (-counts[name], name)
        )
        names = [*SPECIAL, *(name for name in names if name not in SPECIAL)][: self.size]
        return replace(self, vocabulary={name: number for number, name in enumerate(names)})

    def derived_options(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"entity_vocab_size": len(self.vocabulary)}

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """The number of each entity, and the first token and the one after the last that its characters touch."""
        ids, spans = [], []
        for cell, covered in zip(cells, offsets, strict=True):
            found = [(self._number(entity), *touched(entity, covered)) for entity in cell]
            found = [entity for entity in found if entity[1] < entity[2]]
            ids.append(np.array([entity[0] for entity in found], np.int32))
            spans.append(np.array([entity[1:] for entity in found], np.int32).reshape(-1))
        return {"entity_ids": ragged(ids), "entity_spans": ragged(spans)}

    def others(self, cells: Sequence[Any]) -> NDArray[np.int32]:
        """Entities of each row."""
        return np.array([len(cell) for cell in cells], np.int32)

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """`entity_position_ids` (batch, entities, mention), -1 beyond a mention, the others (batch, entities)."""
        kept: list[list[tuple[int, NDArray[np.intp]]]] = []
        every = zip(encoded.sequences("entity_ids", rows), encoded.sequences("entity_spans", rows), strict=True)
        for index, (ids, spans) in enumerate(every):
            kept.append([])
            for number, (start, end) in zip(ids.tolist(), spans.reshape(-1, 2).tolist(), strict=True):
                here = np.flatnonzero((places.origin[index] >= start) & (places.origin[index] < end))
                if len(here) == end - start:
                    kept[-1].append((number, here[: self.max_mention_length]))
        most = max(1, max(map(len, kept)))  # a batch without any has one that is masked
        longest = max((len(here) for row in kept for _, here in row), default=1)
        entity_ids = np.zeros((len(rows), most), np.int64)
        mask = np.zeros((len(rows), most), np.bool_)
        positions = np.full((len(rows), most, longest), -1, np.int64)
        for index, row in enumerate(kept):
            for place, (number, here) in enumerate(row):
                entity_ids[index, place], mask[index, place] = number, True
                positions[index, place, : len(here)] = here
        arrays = entity_ids, positions, mask, np.zeros_like(entity_ids)
        return dict(zip(self.tensors, map(tensor, arrays), strict=True))

    def for_batches(self) -> Self:
        """Without the vocabulary."""
        return replace(self, vocabulary={})

    def describe(self) -> dict[str, Any]:
        """The column and the size of the vocabulary."""
        return {"column": self.column, "vocab_size": len(self.vocabulary)}

    def _number(self, entity: Mapping[str, Any]) -> int:
        name = entity.get("name")
        return self.vocabulary.get("[MASK]" if name is None else name, self.vocabulary["[UNK]"])


def touched(span: Mapping[str, Any], covered: NDArray[np.int64]) -> tuple[int, int]:
    """First token that characters from start to end touch and the one after the last; equal if there is none.

    `covered`: (tokens, 2) characters of the tokens.
    """
    found = np.flatnonzero((covered[:, 0] < span["end"]) & (covered[:, 1] > span["start"]))
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
