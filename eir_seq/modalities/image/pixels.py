"""Pictures as pixels: scaled once, kept as bytes; cropped, changed and standardized in batches."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.base import RowSource, stacked
from eir_seq.modalities.image.augmentation import augmented
from eir_seq.modalities.image.cells import PictureCells, pixels_of, shown, thumbnails
from eir_seq.modalities.image.config import AugmentationConfig, ImageInputConfig
from eir_seq.modalities.image.encoders.base import ImageEncoder, Published
from eir_seq.modalities.json_state import JsonFittedModality
from eir_seq.modalities.pictures import BILINEAR, Pixels, Scaling, picture_in_memory
from eir_seq.randomness import Draw
from eir_seq.registry import imported
from eir_seq.rows import Rows

FEATURE, TENSOR = "pixels", "pixel_values"
PICTURES_MEASURED = 2000
"""Of training pictures, evenly spaced, whose pixels are standardized by what is measured on them."""
RANDOM_CROP_PCT = 0.875
FLAT = 1e-4
"""A channel that varies less, on a scale from 0 to 1, is not divided by its standard deviation."""


class FittedPixels(JsonFittedModality):
    """An image input whose pixels an encoder reads: `shape`, what it reads of pictures scaled by `scaling`."""

    config: ImageInputConfig

    def __init__(self, name: str, config: ImageInputConfig, state: Mapping[str, Any]) -> None:
        super().__init__(name, config, dict(state))
        self.scaling = Scaling(**state["scaling"])
        height, width = state["shape"]
        self.shape: tuple[int, int] = (height, width)
        self.mean: list[float] = state["mean"]
        self.std: list[float] = state["std"]
        self.options: dict[str, Any] = state["options"]

    @classmethod
    def fit(cls, name: str, config: ImageInputConfig, train_rows: Rows) -> FittedPixels:
        """Take size, scaling, mean and standard deviation from the config, published weights or training pictures.

        Raises:
            UserError: pictures are broken inside, or published weights do not fit what the config says.
        """
        place = f"inputs.{name}"
        encoder = imported(config.model.IMPLEMENTATION)
        published = Published()
        if issubclass(encoder, ImageEncoder):
            published = encoder.published(config.model, config.channels, f"{place}.model")
        scaling, shape = _scaling(config, published)
        if config.mean is not None and config.std is not None:
            mean, std = config.mean, config.std
        elif published.moments is not None:
            mean, std = published.moments
        else:
            mean, std = _measured(config.column, scaling, train_rows)
        state = {"scaling": vars(scaling), "shape": list(shape), "mean": mean, "std": std, "options": published.options}
        return cls(name, config, state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedPixels) and (self.name, self._content()) == (other.name, other._content())

    __hash__ = None  # type: ignore[assignment]

    def in_memory(self, column: str, value: Any) -> Any:
        """Pictures as the bytes of files."""
        del column
        return picture_in_memory(value)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Channels, height and width of what the encoder reads."""
        return (self.config.channels, *self.shape)

    @property
    def grid_tensor(self) -> tuple[str, tuple[int, int, int]]:
        """The standardized pixels."""
        return TENSOR, self.grid

    @property
    def cells(self) -> PictureCells:
        """How its column is read and checked."""
        return PictureCells(self.name, self.config)

    @property
    def collator(self) -> PixelCollator:
        """Crops, changes and standardizes pixels."""
        augments = None if self.config.augments.is_empty else self.config.augments
        draws = self.config.resize == "random-crop"
        return PixelCollator(self.name, self.shape, tuple(self.mean), tuple(self.std), draws, augments)

    def fingerprint(self) -> str:
        """Hash of how pictures are scaled."""
        state = json.dumps([self.config.column, vars(self.scaling)])
        return hashlib.sha256(f"pixels {state}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """The pixels of each picture, (height, width, channels) of bytes.

        Raises:
            UserError: pictures that are broken inside.
        """
        cells = rows[self.config.column]
        pixels = np.empty((len(cells), *self.scaling.shape, self.scaling.channels), np.uint8)
        for place, cell in enumerate(cells):
            pixels[place] = pixels_of(cell, self.scaling, self.config.column)
        return {FEATURE: stacked(pixels)}

    def show(self, rows: Mapping[str, Sequence[str]]) -> list[str]:
        """The names of the files."""
        return [shown(cell) for cell in rows[self.config.column]]

    def thumbnails(self, rows: Mapping[str, Sequence[str]]) -> list[bytes]:
        """The pictures themselves."""
        return thumbnails(rows[self.config.column])

    def describe(self) -> dict[str, Any]:
        """Size, channels, and how pixels are standardized."""
        rounded = {key: [round(value, 4) for value in getattr(self, key)] for key in ("mean", "std")}
        return {
            "type": "image",
            "column": self.config.column,
            "size": list(self.shape),
            "channels": self.scaling.channels,
            "resize": self.config.resize or self.scaling.resize,
            **rounded,
        }


def _scaling(config: ImageInputConfig, published: Published) -> tuple[Scaling, tuple[int, int]]:
    """How pictures are scaled when they are encoded, and the height and width that the encoder reads."""
    found = published.scaling
    side = getattr(config.model, "SIZE", 64)
    height, width = config.shape or ((side, side) if found is None else found.shape)
    resample = BILINEAR if found is None else found.resample
    if config.resize is None and found is not None and found.shape == (height, width):
        return replace(found, channels=config.channels), (height, width)
    resize = config.resize or ("squeeze" if found is None else found.resize)
    if resize == "squeeze":
        return Scaling(height, config.channels, "squeeze", None, resample, width), (height, width)
    share = config.crop_pct
    if share is None and found is not None and found.edge:
        share = found.size / found.edge
    if resize == "random-crop":
        larger = (math.ceil(side / (share or RANDOM_CROP_PCT)) for side in (height, width))
        down, across = larger
        return Scaling(down, config.channels, "crop", None, resample, across), (height, width)
    edge = math.ceil(height / (share or 1.0))
    return Scaling(height, config.channels, "crop", edge, resample, width), (height, width)


def _measured(column: str, scaling: Scaling, train_rows: Rows) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over training pictures, on a scale from 0 to 1."""
    step = max(1, math.ceil(train_rows.num_rows / PICTURES_MEASURED))
    total = np.zeros((2, scaling.channels))
    count = 0
    for cell in train_rows.select(range(0, train_rows.num_rows, step))[column]:
        flat = pixels_of(cell, scaling, column).reshape(-1, scaling.channels) / 255
        total += np.stack([flat.sum(0), (flat**2).sum(0)])
        count += len(flat)
    mean, square = total / count
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.tolist(), np.where(std < FLAT, 1.0, std).tolist()


@dataclass(frozen=True)
class PixelCollator:
    """Stored pixels to `pixel_values`.

    Attributes:
        name: of the input, for its random numbers.
        shape: height and width of what the encoder reads; stored pixels may be more, and a crop is taken.
        mean: of each channel, from 0 to 1.
        std: standard deviation of each channel.
        draws: whether crops are drawn at random in training; else they are from the middle.
        augments: how training pictures are changed, if they are.
    """

    name: str
    shape: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    draws: bool = False
    augments: AugmentationConfig | None = None

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`pixel_values` (batch, channels, height, width), float32 and standardized."""
        pixels = self._cropped(encoded.arrays(FEATURE, rows), rows, draw)
        values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        if self.augments is not None and draw.epoch is not None:
            seeds = [draw.below(2**63, self.name, "augmentation", row) for row in rows]
            values = augmented(values, self.augments, seeds)
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return {TENSOR: ((values - mean) / std).contiguous()}

    def _cropped(self, pixels: NDArray[np.uint8], rows: Sequence[int], draw: Draw) -> Pixels:
        height, width = self.shape
        down, across = pixels.shape[1] - height, pixels.shape[2] - width
        if not down and not across:
            return pixels
        if not self.draws or draw.epoch is None:
            top, left = down // 2, across // 2
            return pixels[:, top : top + height, left : left + width]
        found = np.empty((len(pixels), height, width, pixels.shape[3]), np.uint8)
        for place, row in enumerate(rows):
            top, left = (draw.below(room + 1, self.name, axis, row) for axis, room in (("top", down), ("left", across)))
            found[place] = pixels[place, top : top + height, left : left + width]
        return found
