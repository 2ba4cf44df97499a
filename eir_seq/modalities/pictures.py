"""Pictures in files: found beside the data, checked, and scaled to squares of pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.files import is_file, missing, open_cell

if TYPE_CHECKING:
    from PIL.Image import Image

Resize = Literal["crop", "squeeze"]
Pixels = NDArray[np.uint8]

PREPROCESSING = "preprocessor_config.json"
"""The file of a published model that says how pictures become its input."""
BILINEAR, BICUBIC = 2, 3
FILTERS = range(6)
"""Numbers of the ways of resampling, in published files as in Pillow."""
MODES = {3: "RGB", 1: "L"}
"""How pictures of so many channels are called."""
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa")
"""Kinds of pictures whose values are bytes, so that they can be turned into colours or grey without loss of range."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
"""What is read. Others that Pillow knows are programs (EPS, which Ghostscript runs), or are seldom used and tested."""
MOST_PIXELS = 1 << 26
LONGEST_SHAPE = 200
"""Larger or longer pictures are refused: a small file may claim to hold one that fills the memory, or grow to one."""


@dataclass(frozen=True)
class Scaling:
    """How a picture becomes a square of `size` pixels from side to side with `channels` values each (1 or 3).

    `resize`: ``squeeze`` gives the whole picture another shape; ``crop`` scales it until its shorter side has `edge`
    pixels (`size` if absent) and takes the middle. `resample`: a number of `FILTERS`.
    """

    size: int
    channels: int = 3
    resize: Resize = "crop"
    edge: int | None = None
    resample: int = BICUBIC

    def pixels(self, path: str) -> Pixels:
        """The picture in a file as (size, size, channels).

        Raises:
            UserError: the file is no picture any more, or broken inside.
        """
        from PIL import ImageOps

        try:
            with opened_picture(path) as image:
                if shape := _impossible_shape(image.size):
                    raise ValueError(shape)
                ImageOps.exif_transpose(image, in_place=True)
                return self.of_image(image)
        except _unreadable() as error:
            reason = " ".join(str(error).split())[:80]
            raise UserError(Fault(path, f"the picture cannot be read to its end ({reason})")) from error

    def of_image(self, image: Image) -> Pixels:
        """The same of a picture in memory."""
        from PIL.Image import Resampling

        if image.mode != MODES[self.channels]:
            image = image.convert(MODES[self.channels])
        width, height = image.size
        if self.resize == "squeeze":
            target = (self.size, self.size)
        else:
            edge, shorter = self.edge or self.size, min(width, height)
            target = (max(self.size, edge * width // shorter), max(self.size, edge * height // shorter))
        scaled = image.resize(target, Resampling(self.resample))
        left, top = ((side - self.size) // 2 for side in target)
        cut = scaled.crop((left, top, left + self.size, top + self.size))
        return np.asarray(cut, np.uint8).reshape(self.size, self.size, self.channels)


def problem(cell: Any, channels: int) -> Iterator[str]:
    """What is wrong with a cell that `locate` gave, as far as the file's beginning tells."""
    if isinstance(cell, str):
        yield missing(cell)
        return
    if not is_file(cell):
        yield f"is {str(cell)[:40]}, not the name of a file"
        return
    try:
        with opened_picture(cell[0]) as image:
            mode, (width, height) = image.mode, image.size
    except _unreadable() as error:
        reason = " ".join(str(error).split())[:80]
        yield f"names {cell[0]}, which is no picture ({reason})"
        return
    if mode not in EIGHT_BITS:
        wanted = "colours" if channels == 3 else "grey"
        yield f"names {cell[0]}, a picture with channels of kind {mode!r}; {wanted} of 8 bits per channel are expected"
    elif shape := _impossible_shape((width, height)):
        yield f"names {cell[0]}, {shape}"


def _impossible_shape(size: tuple[int, int]) -> str | None:
    """What is wrong with the size of a picture, as its header tells it; None where it can be decoded."""
    width, height = size
    if width * height <= MOST_PIXELS and max(size) <= LONGEST_SHAPE * min(size):
        return None
    return (
        f"a picture of {width} x {height} pixels; at most {MOST_PIXELS:,} are read, and sides of 1 to {LONGEST_SHAPE}"
    )


@contextmanager
def opened_picture(path: str) -> Iterator[Image]:
    """The header of a picture in one of `FORMATS`, whatever the file's name; its pixels are decoded when asked for.

    Raises what `_unreadable` lists where the file holds none.
    """
    import warnings

    from PIL import Image, UnidentifiedImageError

    with open_cell(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
        with image:
            yield image


def _unreadable() -> tuple[type[Exception], ...]:
    from PIL.Image import DecompressionBombError

    return (OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error, DecompressionBombError)


# ------------------------------------------------------------------------------------------------ published models


def published_scaling(content: Mapping[str, Any], size: int, channels: int, place: str) -> Scaling:
    """How a published model scales pictures, from the contents of its `PREPROCESSING` file at `place`.

    Raises:
        UserError: it makes pictures of another size than the model's, or says something impossible.
    """
    crops = content.get("do_center_crop", "crop_size" in content)
    given = content.get("size", size)
    edge = given.get("shortest_edge") if isinstance(given, Mapping) else given if crops else None
    sides = _sides(given) if edge is None else (edge, edge)
    final = _sides(content.get("crop_size", size)) if crops else sides
    if final != (size, size):
        raise UserError(
            Fault(place, f"makes pictures of {final[0]} x {final[1]} pixels, the model reads {size} x {size}")
        )
    resample = content.get("resample", BICUBIC)
    if resample not in FILTERS:
        raise UserError(Fault(place, f"resample {resample!r} is not one of {FILTERS[0]} to {FILTERS[-1]}"))
    if not crops:
        return Scaling(size, channels, "squeeze", resample=resample)
    if not isinstance(edge, int) or edge < size:
        raise UserError(Fault(place, f"size {given!r} is not a shorter side of {size} pixels or more"))
    return Scaling(size, channels, "crop", edge, resample)


def _sides(given: Any) -> tuple[Any, Any]:
    return (given.get("height"), given.get("width")) if isinstance(given, Mapping) else (given, given)


def published_moments(content: Mapping[str, Any], channels: int, place: str) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of each channel, from 0 to 1, of a published processor; None where it does not say.

    Raises:
        UserError: they are no such numbers.
    """
    if content.get("do_normalize") is False:
        return [0.0] * channels, [1.0] * channels
    found = []
    for name in ("image_mean", "image_std"):
        values = content.get(name)
        if values is None:
            return None
        if not is_numbers(values, channels) or (name == "image_std" and not min(values) > 0):
            raise UserError(Fault(place, f"{name} {values!r} is not {channels} numbers, one for each channel"))
        found.append([float(value) for value in values])
    return found[0], found[1]


def is_numbers(values: Any, count: int) -> bool:
    """Whether `values` are so many finite numbers."""
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in values)
    )
