"""Regions of an image alongside a text (visual_bert)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource, ragged
from eir_seq.modalities.files import is_file, locate, missing, open_cell
from eir_seq.modalities.sequence.tensors.base import Content, Places, TensorSource, shown, tensor


@dataclass(frozen=True)
class Regions(TensorSource):
    """`visual_embeds`, its mask and segments (1): vectors of width `size`, as many as a row has."""

    size: int = 512

    tensors = ("visual_embeds", "visual_attention_mask", "visual_token_type_ids")

    def resolve(self, cell: Any, folder: Path) -> Any:
        """See `locate`."""
        return locate(cell, folder)

    def problems(self, cell: Any, content: Content) -> Iterator[str]:  # noqa: ARG002
        """A missing or foreign file, vectors of another width, or values that are not finite."""
        if isinstance(cell, str):
            yield missing(cell)
            return
        try:
            vectors = self._vectors(cell)
        except (OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError) as error:
            what = f"names {cell[0]}, which is" if is_file(cell) else f"is {shown(cell)},"
            reason = " ".join(str(error).split())[:80]
            yield f"{what} not a table of numbers, one line per region ({reason})"
            return
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            shape = " x ".join(map(str, vectors.shape))
            yield f"has an array of {shape}, not of regions x {self.size} (visual_embedding_dim)"
        elif not np.isfinite(vectors).all():
            yield "has vectors with values that are not finite"

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """The vectors, one after another."""
        return {"visual_embeds": ragged([self._vectors(cell).reshape(-1) for cell in cells], np.float32)}

    def others(self, cells: Sequence[Any]) -> NDArray[np.int32]:
        """Regions of each row."""
        return np.array([len(self._vectors(cell)) for cell in cells], np.int32)

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:  # noqa: ARG002
        """`visual_embeds` (batch, regions, size), the others (batch, regions)."""
        every = [values.reshape(-1, self.size) for values in encoded.sequences("visual_embeds", rows)]
        most = max(1, max(map(len, every)))  # a batch without any has one that is masked
        vectors = np.zeros((len(rows), most, self.size), np.float32)
        for index, own in enumerate(every):
            vectors[index, : len(own)] = own
        mask = np.arange(most) < np.array([len(own) for own in every])[:, None]
        arrays = vectors, mask, np.ones(mask.shape, np.int64)
        return dict(zip(self.tensors, map(tensor, arrays), strict=True))

    def _vectors(self, cell: Any) -> NDArray[np.float32]:
        if is_file(cell):
            open_cell(cell[0]).close()
            return np.asarray(np.load(cell[0], mmap_mode="r", allow_pickle=False), np.float32)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            vectors = np.asarray(cell, np.float32)
        return vectors.reshape(0, self.size) if vectors.shape == (0,) else vectors
