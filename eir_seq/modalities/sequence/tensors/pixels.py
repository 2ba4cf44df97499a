"""A picture alongside a text (git)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource, stacked
from eir_seq.modalities.files import is_file, locate_content, name_of, source_of
from eir_seq.modalities.pictures import BICUBIC, Resize, Scaling, picture_in_memory, problem
from eir_seq.modalities.sequence.tensors.base import Content, Places, TensorSource, tensor

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of each channel over the pictures that clip, and so git's encoder, learned from (https://arxiv.org/abs/2103.00020)."""


@dataclass(frozen=True)
class Picture(TensorSource):
    """`pixel_values`: a picture's channels, from 0 to 1, less their `mean`, divided by their `deviation`.

    `tokens`: those that the model makes of it, which precede the text. `frames`: a row holds that many
    pictures, a video. Other fields are those of `Scaling`.
    """

    size: int = 224
    channels: int = 3
    resize: Resize = "crop"
    edge: int | None = None
    resample: int = BICUBIC
    width: int | None = None
    mean: list[float] = field(default_factory=lambda: list(MEAN))
    deviation: list[float] = field(default_factory=lambda: list(DEVIATION))
    tokens: int = 0
    frames: int | None = None

    tensors = ("pixel_values",)
    per_row = True

    @property
    def scaling(self) -> Scaling:
        """How the picture becomes pixels."""
        return Scaling(self.size, self.channels, self.resize, self.edge, self.resample, self.width)

    def in_memory(self, value: Any) -> Any:
        """Pictures as the bytes of files."""
        return picture_in_memory(value)

    def resolve(self, cell: Any, folder: Path) -> Any:
        """See `locate_content`."""
        if self.frames is None or not isinstance(cell, list):
            return locate_content(cell, folder)
        return [locate_content(name, folder) for name in cell]

    def problems(self, cell: Any, content: Content) -> Iterator[str]:  # noqa: ARG002
        """A missing file, or one that is no picture; another number of frames."""
        if self.frames is None:
            yield from problem(cell, self.channels)
        elif is_file(cell) or not isinstance(cell, list) or len(cell) != self.frames:
            count = len(cell) if isinstance(cell, list) and not is_file(cell) else 1
            yield f"has {count} pictures; a list of {self.frames} is expected (num_image_with_embedding)"
        else:
            for frame in cell:
                yield from problem(frame, self.channels)

    def encode(self, cells: Sequence[Any], contents: Sequence[Content], offsets: Sequence[Any]) -> dict[str, pa.Array]:  # noqa: ARG002
        """The pixels, (size, size, channels) or (frames, size, size, channels) per row."""
        pictures = ([cell] if self.frames is None else cell for cell in cells)
        pixels = np.stack(
            [np.stack([self.scaling.pixels(source_of(x), name_of(x)) for x in frames]) for frames in pictures]
        )
        return {"pixel_values": stacked(pixels[:, 0] if self.frames is None else pixels)}

    def others(self, cells: Sequence[Any]) -> NDArray[np.int32]:
        """The picture's."""
        return np.full(len(cells), self.tokens, np.int32)

    def collate(self, encoded: RowSource, rows: Sequence[int], places: Places) -> dict[str, Tensor]:  # noqa: ARG002
        """`pixel_values` (batch, channels, size, size), or (batch, frames, channels, size, size)."""
        pixels = encoded.arrays("pixel_values", rows)
        mean, deviation = np.array(self.mean, np.float32), np.array(self.deviation, np.float32)
        values = (pixels.astype(np.float32) / np.float32(255) - mean) / deviation
        return {"pixel_values": tensor(np.ascontiguousarray(np.moveaxis(values, -1, -3)))}

    def describe(self) -> dict[str, Any]:
        """Column, and pixels from side to side."""
        return {**super().describe(), "size": self.size, "resize": self.resize}
