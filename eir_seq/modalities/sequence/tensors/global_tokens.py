"""Tokens that see the whole text and that all see (longformer, led)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource, ragged
from eir_seq.modalities.sequence.tensors.base import Content, Places, TensorSource, is_whole, shown, tensor
from eir_seq.modalities.sequence.tensors.entities import touched

SPANS = "global_spans"


@dataclass(frozen=True)
class GlobalTokens(TensorSource):
    """`global_attention_mask`: 1 at all tokens that any of its rules names, 0 elsewhere.

    `first`: the first token. `question`: all tokens of the text of "column", or of that of "pair_column".
    `every`: every k-th token, starting with the first. `column`: a list of `{start, end}` in characters of the text,
    whose tokens are global as far as truncation leaves them.
    """

    first: bool = True
    question: str | None = None
    every: int | None = None

    tensors = ("global_attention_mask",)

    @property
    def reads_offsets(self) -> bool:  # type: ignore[override]
        """Whether there are characters to be found."""
        return self.column is not None

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """Each span that is none."""
        if not isinstance(cell, list):
            yield f"is {shown(cell)}, not a list of spans {{start, end}}"
            return
        assert content.text is not None
        for number, span in enumerate(cell, 1):
            if not isinstance(span, dict) or span.keys() != {"start", "end"} or not all(map(is_whole, span.values())):
                yield f"has as span {number} {shown(span)}, not {{start, end}} in integers"
            elif not 0 <= span["start"] < span["end"] <= len(content.text):
                yield (
                    f"has as span {number} the characters {shown(span['start'])} to {shown(span['end'])} of a text of "
                    f"{len(content.text)}"
                )

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """Of each span the first token and the one after the last that its characters touch."""
        if self.column is None:
            return {}
        spans = ([touched(span, covered) for span in cell] for cell, covered in zip(cells, offsets, strict=True))
        return {SPANS: ragged([np.array(row, np.int32).reshape(-1) for row in spans])}

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """`global_attention_mask` (batch, length)."""
        number = places.mask.cumsum(1) - 1
        marked: NDArray[np.bool_] = np.zeros_like(places.mask)
        if self.first:
            marked |= number == 0
        if self.every is not None:
            marked |= number % self.every == 0
        if self.question is not None:
            marked |= places.pair if self.question == "pair_column" else places.origin >= 0
        if self.column is not None:
            for index, spans in enumerate(encoded.sequences(SPANS, rows)):
                for start, end in spans.reshape(-1, 2).tolist():
                    marked[index] |= (places.origin[index] >= start) & (places.origin[index] < end)
        return {"global_attention_mask": tensor((marked & places.mask).astype(np.int64))}

    def describe(self) -> dict[str, Any]:
        """The rules."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}
