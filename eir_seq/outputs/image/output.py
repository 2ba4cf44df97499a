"""Pictures: read, resized, standardized by the training pictures, predicted, written as .png files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.array.moments import Moments
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.modalities.files import name_of, source_of
from eir_seq.modalities.pictures import BILINEAR, MODES, Pixels, Scaling, picture_size, problem
from eir_seq.outputs.arrays.output import FittedGridOutput, GridState, parts, stacked
from eir_seq.outputs.base import Output, TargetRows, ids_of, row_names
from eir_seq.outputs.files import FileCell
from eir_seq.outputs.image.cells import TargetPictures, check_size
from eir_seq.outputs.image.config import ImageOutputConfig

ROWS_AT_ONCE = 32
"""Pictures that are in memory while means are measured."""
WHITE = 255
WINDOW = 11
"""Side of the window of SSIM."""


class ImageState(GridState):
    """The state of a fitted output of pictures; mean and deviation of channels are on a scale from 0 to 1."""

    type: Literal["image"] = "image"
    config: ImageOutputConfig


class FittedPictures(FittedGridOutput):
    """An output of pictures. Targets are bytes (rows, channels, height, width)."""

    config: ImageOutputConfig

    @property
    def grid(self) -> Shape:
        """Channels, height and width."""
        channels, height, width = self.shape
        return channels, height, width

    @property
    def target_cells(self) -> TargetPictures:
        """How its column is read and checked."""
        return TargetPictures(self.name, self.config, (self.shape[1], self.shape[2]), is_fitted=True)

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """The pixels, ByteTensor (rows, channels, height, width).

        Raises:
            UserError: a picture cannot be read, or has another size where `size` is not given.
        """
        pictures, problems = self._read(rows)
        if problems:
            place = min(problems)
            message = f"column {self.config.column!r} {problems[place]} ({row_names(sorted(problems), ids)})"
            raise UserError(Fault(f"outputs.{self.name}.column", message))
        return stacked(pictures, self.grid, np.uint8)

    def _read(self, rows: TargetRows) -> tuple[list[Pixels], dict[int, str]]:
        """The pixels of each row, and by position what is wrong with those of others."""
        pictures, problems = [], {}
        for place, cell in enumerate(rows[self.config.column]):
            if cell is None:
                continue
            try:
                pictures.append(read_picture(cell, self.config, (self.shape[1], self.shape[2])))
            except ValueError as error:
                problems[place] = str(error)
        return pictures, problems

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows with a picture that cannot be read, or of another size."""
        _, problems = self._read(rows)
        return {place: f"{self.config.column!r} {problem}" for place, problem in problems.items()}

    def numbers(self, target: Tensor) -> Tensor:
        """On a scale from 0 to 1."""
        return target.float() / WHITE

    def restored(self, raw: Tensor) -> Tensor:
        """On a scale from 0 to 1."""
        return self.scale.restored(raw).clamp(0, 1)

    def value(self, predicted: Tensor) -> Pixels:
        """The pixels, (height, width, channels), or (height, width) of a gray picture."""
        pixels: Pixels = (predicted * WHITE).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels

    def measured(self, predicted: Tensor, target: Tensor) -> dict[str, float]:
        """Also PSNR, and SSIM (Wang et al. 2004, mean over rows) of pictures that are as large as its window."""
        values = super().measured(predicted, target)
        if values["mse"] > 0:
            values["psnr"] = -10 * math.log10(values["mse"])
        if min(self.shape[1:]) >= WINDOW:
            from eir_seq.outputs.torchmetrics import structural_similarity_index_measure

            total = 0.0
            for some_raw, some_target in parts(predicted, target):
                pair = self.form.predicted(some_raw), self.numbers(some_target)
                similarity = structural_similarity_index_measure(*pair, reduction="sum", data_range=1.0)
                assert isinstance(similarity, Tensor)
                total += float(similarity)
            values["ssim"] = total / len(predicted)
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """SSIM of small pictures, and what the form says."""
        found = super().undefined(target)
        if min(self.shape[1:]) < WINDOW:
            found["ssim"] = f"pictures are smaller than its window, {WINDOW} x {WINDOW}"
        return found

    def file(self, row: Any) -> FileCell:
        """A .png file."""
        return FileCell(row, ".png", png)

    def names(self, rows: TargetRows) -> list[str]:
        """The names of the files."""
        return [name_of(_parsed(cell)) for cell in rows[self.config.column]]

    def describe(self) -> dict[str, Any]:
        """Size, channels, loss and decoder."""
        channels, height, width = self.grid
        return {
            "type": "image",
            "column": self.config.column,
            "size": [height, width],
            "mode": MODES[channels],
            "loss": self.config.loss,
            "model": self.config.decoder,
            "unet_inputs": ", ".join(self.config.grid_inputs) or None,
        }


class ImageOutput(Output):
    """An output of pictures as declared; `fit` learns their size, and mean and deviation of each channel."""

    STATE = ImageState
    FITTED = FittedPictures
    config: ImageOutputConfig

    def fit(self, train_rows: TargetRows) -> FittedPictures:
        """Measure the training pictures, a few at a time.

        Raises:
            UserError: a picture cannot be read, or has another size than the first (without `size`); all pixels are the
                same.
        """
        config, ids = self.config, ids_of(train_rows)
        moments, size = Moments((0, 2, 3)), config.shape
        cells = train_rows[config.column]
        lowest, highest = WHITE, 0
        for start in range(0, len(cells), ROWS_AT_ONCE):
            pictures = []
            for place, cell in enumerate(cells[start : start + ROWS_AT_ONCE], start):
                try:
                    size = size or picture_size(_parsed(cell))
                    pictures.append(read_picture(cell, config, size, "the first one has"))
                except ValueError as error:
                    self._refuse(f"{error} ({row_names([place], ids)})")
            pixels = np.stack(pictures)
            lowest, highest = min(lowest, int(pixels.min())), max(highest, int(pixels.max()))
            moments.add(pixels / np.float32(WHITE))
        assert size is not None, "there are training rows"
        if lowest == highest:
            self._refuse(f"has {lowest} in every pixel of the training pictures; nothing to learn")
        return FittedPictures(
            ImageState(
                name=self.name,
                config=config,
                shape=[config.channels, *size],
                mean=moments.mean.astype(np.float32).flatten().tolist(),
                deviation=moments.deviation.astype(np.float32).flatten().tolist(),
            )
        )

    def _refuse(self, problem: str) -> Any:
        raise UserError(Fault(f"outputs.{self.name}.column", f"column {self.config.column!r} {problem}"))


def read_picture(
    cell: Any, config: ImageOutputConfig, size: tuple[int, int], others: str = "the model predicts"
) -> NDArray[np.uint8]:
    """The pixels of a cell, (channels, height, width), resized if the config says so; raises `ValueError` if there are
    none, or they have another size."""
    cell = _parsed(cell)
    for fault in problem(cell, config.channels):
        raise ValueError(fault)
    if config.size is None:
        check_size(cell, size, others)
    scaling = Scaling(size[0], config.channels, config.resize, resample=BILINEAR, width=size[1])
    try:
        pixels = scaling.pixels(source_of(cell), name_of(cell))
    except UserError as error:
        raise ValueError(f"names {name_of(cell)}: {error.faults[0].message}") from None
    return pixels.transpose(2, 0, 1)


def _parsed(cell: Any) -> Any:
    return parse_cell(cell) if isinstance(cell, str) else cell


def png(pixels: Pixels) -> bytes:
    """Pixels (height, width) or (height, width, channels) as the bytes of a .png file."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
