"""Values of words: boxes on a page (layoutlm) and xpaths in a document (markuplm)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from torch import Tensor

from eir_seq.modalities.base import RowSource, ragged
from eir_seq.modalities.sequence.tensors.base import (
    Content,
    Places,
    TensorSource,
    count_problem,
    is_whole,
    per_token,
    shown,
    tensor,
)

LARGEST = 1000
"""Coordinates are thousandths of the page; so are published models trained."""
_STEP = re.compile(r"([^\s/\[\]]+)(?:\[(\d+)\])?")


@dataclass(frozen=True)
class Boxes(TensorSource):
    """`bbox`: the box of a word at each of its tokens; [1000] * 4 at separators, zeros at other special tokens.

    `largest`: the greatest coordinate; `separator`: id of the separating token.
    """

    largest: int = LARGEST
    separator: int | None = None

    tensors = ("bbox",)
    per_word = True

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """Each box that is none."""
        problem = count_problem(cell, content, "boxes")
        if problem is not None:
            yield problem
            return
        for number, box in enumerate(cell, 1):
            if not (isinstance(box, list) and len(box) == 4 and all(map(is_whole, box))):
                yield f"has at word {number} {shown(box)}, not [left, top, right, bottom] in integers"
            elif not all(0 <= edge <= self.largest for edge in box):
                yield f"has at word {number} the box {shown(box)}, which is not within 0 and {self.largest}"
            elif box[2] < box[0] or box[3] < box[1]:
                yield f"has at word {number} the box {shown(box)}, whose right or bottom edge is before the other"

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """Four numbers per word."""
        return {"bbox": ragged([np.asarray(cell, np.int32).reshape(-1) for cell in cells])}

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """`bbox` (batch, length, 4)."""
        boxes = per_token(encoded, "bbox", rows, places.word, 4, (0, 0, 0, 0))
        if self.separator is not None:
            boxes[(places.input_ids == self.separator) & (places.origin < 0) & places.mask] = self.largest
        return {"bbox": tensor(boxes)}


@dataclass(frozen=True)
class XPaths(TensorSource):
    """`xpath_tags_seq` and `xpath_subs_seq`: the steps of a word's xpath at each of its tokens, padding elsewhere.

    `tags` numbers the names of elements; others have the number `unknown`. Without a `column` xpaths are those of the
    HTML in the text column.
    """

    depth: int = 50
    tag_padding: int = 216
    subscript_padding: int = 1001
    num_tags: int = 256
    num_subscripts: int = 1024
    tags: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 215

    tensors = ("xpath_tags_seq", "xpath_subs_seq")
    per_word = True

    def problems(self, cell: Any, content: Content) -> Iterator[str]:
        """Each xpath that is none."""
        if self.column is None:
            return
        problem = count_problem(cell, content, "xpaths")
        if problem is not None:
            yield problem
            return
        for number, xpath in enumerate(cell, 1):
            if steps_of(xpath) is None:
                yield f"has at word {number} {shown(xpath)}, not an xpath such as /html/body/div[2]/p"

    def fit(self, cells: Iterable[Any], contents: Iterable[Content]) -> Self:
        """Numbers for the most frequent tags of the training rows, unless a published table is there."""
        if self.tags:
            return self
        paths = cells if self.column is not None else (content.xpaths or () for content in contents)
        counts = Counter(tag for row in paths for path in row for tag, _ in steps_of(path) or ())
        free = [number for number in range(self.num_tags) if number != self.tag_padding]
        known = [tag for tag, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][: len(free) - 1]
        return replace(self, tags=dict(zip(sorted(known), free, strict=False)), unknown=free[len(known)])

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """`depth` tags and as many subscripts per word."""
        paths = cells if self.column is not None else [content.xpaths or () for content in contents]
        found = [[self._numbers(path) for path in row] for row in paths]
        return {"xpaths": ragged([np.asarray(row, np.int32).reshape(-1) for row in found])}

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:
        """Both tensors, (batch, length, depth)."""
        padding = [self.tag_padding] * self.depth + [self.subscript_padding] * self.depth
        steps = per_token(encoded, "xpaths", rows, places.word, 2 * self.depth, padding)
        parts = np.ascontiguousarray(steps[..., : self.depth]), np.ascontiguousarray(steps[..., self.depth :])
        return dict(zip(self.tensors, map(tensor, parts), strict=True))

    def for_batches(self) -> Self:
        """Without the table of tags."""
        return replace(self, tags={})

    def describe(self) -> dict[str, Any]:
        """Where xpaths are from, and how many tags are known."""
        return {"column": self.column or "(html)", "tags": len(self.tags)}

    def _numbers(self, xpath: str) -> list[int]:
        steps = steps_of(xpath)
        assert steps is not None
        widest = min(self.num_subscripts - 1, 1000)
        if self.subscript_padding <= widest:
            widest = max(self.subscript_padding - 1, 0)
        tags = [self.tags.get(tag, self.unknown) for tag, _ in steps[: self.depth]]
        subscripts = [min(number, widest) for _, number in steps[: self.depth]]
        rest = self.depth - len(tags)
        return tags + [self.tag_padding] * rest + subscripts + [self.subscript_padding] * rest


def steps_of(xpath: Any) -> list[tuple[str, int]] | None:
    """Tag and number (0 if there is none) of each step of an xpath; None if it is none."""
    if not isinstance(xpath, str):
        return None
    matches = [_STEP.fullmatch(step) for step in xpath.strip().split("/") if step.strip()]
    if not matches or None in matches:
        return None
    return [(match[1], int(match[2] or 0)) for match in matches if match is not None]
