"""Pictures in files or in cells: found next to the data, checked, and scaled to arrays of pixels of one shape."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.files import is_bytes, is_file, missing, name_of, open_cell, source_of

if TYPE_CHECKING:
    from PIL.Image import Image

Resize = Literal["crop", "squeeze"]
Pixels = NDArray[np.uint8]

PREPROCESSING = "preprocessor_config.json"
"""The file of a published model that says how pictures become its input."""
BILINEAR, BICUBIC = 2, 3
FILTERS = range(6)
"""Numbers of the ways of resampling, in published files as in Pillow."""
MODES = {3: "RGB", 1: "L", 4: "RGBA"}
"""How pictures of that many channels are called."""
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa")
"""Kinds of pictures whose values are bytes, so that they can be turned into colours or grey without loss of range."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
"""What is read. Others that Pillow knows are programs (EPS, which Ghostscript runs), or are seldom used and tested."""
END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
"""What the last `TAIL` bytes of a complete picture hold, by format."""
TAIL = 1024
_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, height and width are exchanged."""
THUMBNAIL = 64
MOST_PIXELS = 1 << 26
LONGEST_SHAPE = 200
"""Larger or longer pictures are refused: a small file may claim to hold one that fills the memory, or grow to one."""


@dataclass(frozen=True)
class Scaling:
    """How a picture becomes `size` rows of `width` pixels (a square if absent) with `channels` values each (1, 3 or 4).

    `resize`: ``squeeze`` gives the whole picture another shape; ``crop`` scales it until it covers what is taken from
    its middle, or `edge` pixels in place of `size`. `resample`: a number of `FILTERS`.
    """

    size: int
    channels: int = 3
    resize: Resize = "crop"
    edge: int | None = None
    resample: int = BICUBIC
    width: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.width or self.size

    def pixels(self, source: str | bytes, name: str = "a picture in a cell") -> Pixels:
        """A picture as (height, width, channels).

        Args:
            source: its file or its bytes.
            name: what to call it if it is given as bytes.

        Raises:
            UserError: it is no picture any more, or broken inside.
        """
        from PIL import ImageOps

        try:
            with opened_picture(source) as image:
                if shape := _impossible_shape(image.size):
                    raise ValueError(shape)
                ImageOps.exif_transpose(image, in_place=True)
                return self.of_image(image)
        except _unreadable() as error:
            place = source if isinstance(source, str) else name
            raise UserError(Fault(place, f"the picture {_broken(error)}")) from error

    def of_image(self, image: Image) -> Pixels:
        """The same of a picture in memory."""
        from PIL.Image import Resampling

        if image.mode != MODES[self.channels]:
            if self.channels == 4 and image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBX", "RGBa"):
                image = image.convert("RGB")  # of the others Pillow knows no way to transparency
            image = image.convert(MODES[self.channels])
        (across, down), (height, width) = image.size, self.shape
        if self.resize == "squeeze":
            target = (width, height)
        else:
            edge = self.edge or self.size
            box = (edge * width // height, edge)
            if box[0] * down >= box[1] * across:
                target = (box[0], down * box[0] // across)
            else:
                target = (across * box[1] // down, box[1])
            target = (max(width, target[0]), max(height, target[1]))
        scaled = image.resize(target, Resampling(self.resample))
        left, top = (target[0] - width) // 2, (target[1] - height) // 2
        cut = scaled.crop((left, top, left + width, top + height))
        return np.asarray(cut, np.uint8).reshape(height, width, self.channels)


def picture_in_memory(value: Any) -> Any:
    """A Pillow image, or pixels (height, width) or (height, width, channels) of 8 bits, as the bytes of a file.

    Anything else is given back: the name of a file, bytes, or a list of pictures, whose entries are changed alike.

    Raises:
        ValueError: an array that holds no pixels, or an image of a kind that no file holds.

    Example:
        >>> picture_in_memory(np.zeros((2, 3), np.uint8))[:4], picture_in_memory("scan.png")
        (b'\\x89PNG', 'scan.png')
    """
    from PIL import Image, ImageOps

    if isinstance(value, list | tuple):
        return [picture_in_memory(part) for part in value]
    if isinstance(value, np.ndarray):
        channels = value.shape[2] if value.ndim == 3 else 1
        if value.dtype != np.uint8 or value.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
            shape = " x ".join(map(str, value.shape))
            expected = "pixels of uint8, height x width or height x width x channels, are expected"
            raise ValueError(f"holds an array of {value.dtype}, {shape or 'a single number'}; {expected}")
        value = Image.fromarray(value[:, :, 0] if value.ndim == 3 and channels == 1 else value)
    if not isinstance(value, Image.Image):
        return value
    upright = ImageOps.exif_transpose(value)
    for kind in ("PNG", "TIFF"):  # both keep all values; TIFF knows more kinds of channels
        content = BytesIO()
        try:
            upright.save(content, kind)
        except (OSError, KeyError):
            continue
        return content.getvalue()
    raise ValueError(f"holds an image with channels of kind {value.mode!r}; convert it to 'RGB' or 'L'")


def picture_size(cell: Any) -> tuple[int, int]:
    """Height and width in pixels of a picture that `locate_content` found, turned as its camera says.

    Raises:
        ValueError: there is none.
    """
    try:
        with opened_picture(source_of(cell)) as image:
            (width, height), turned = image.size, image.getexif().get(_ORIENTATION, 1) >= 5
    except _unreadable() as error:
        raise ValueError(f"names {name_of(cell)}, which is no picture ({' '.join(str(error).split())[:80]})") from None
    return (width, height) if turned else (height, width)


def thumbnail(source: str | bytes, name: str = "a picture in a cell") -> bytes:
    """A PNG of at most `THUMBNAIL` pixels a side; arguments and errors as of `Scaling.pixels`."""
    from PIL import ImageOps

    found = BytesIO()
    try:
        with opened_picture(source) as image:
            if shape := _impossible_shape(image.size):
                raise ValueError(shape)
            ImageOps.exif_transpose(image, in_place=True)
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            small.save(found, "PNG")
    except _unreadable() as error:
        place = source if isinstance(source, str) else name
        raise UserError(Fault(place, f"the picture {_broken(error)}")) from error
    return found.getvalue()


def problem(cell: Any, channels: int) -> Iterator[str]:
    """What is wrong with a cell that `locate_content` gave, as far as the picture's beginning and end tell."""
    if isinstance(cell, str):
        yield missing(cell)
        return
    if not (is_file(cell) or is_bytes(cell)):
        yield f"is {str(cell)[:40]}, not the name of a file"
        return
    try:
        source = source_of(cell)
        found = f"names {source}" if isinstance(source, str) else f"holds {name_of(cell)}"
    except ValueError as error:
        yield str(error)
        return
    try:
        with opened_picture(source) as image:
            mode, kind, (width, height) = image.mode, image.format, image.size
    except _unreadable() as error:
        reason = " ".join(str(error).split())[:80]
        yield f"{found}, which is no picture ({reason})"
        return
    if mode not in EIGHT_BITS:
        wanted = "grey" if channels == 1 else "colours"
        yield f"{found}, a picture with channels of kind {mode!r}; {wanted} of 8 bits per channel are expected"
    elif shape := _impossible_shape((width, height)):
        yield f"{found}, {shape}"
    elif END_MARKS.get(str(kind), b"") not in _tail(source):
        try:  # something else may follow the picture
            with opened_picture(source) as image:
                image.load()
        except _unreadable() as error:
            yield f"{found}, a picture that {_broken(error)}"


def _tail(source: str | bytes) -> bytes:
    """The last bytes of a picture."""
    if isinstance(source, bytes):
        return source[-TAIL:]
    with open_cell(source) as file:
        file.seek(-min(TAIL, file.seek(0, SEEK_END)), SEEK_END)
        return file.read()


def _broken(error: Exception) -> str:
    return f"cannot be read to its end ({' '.join(str(error).split())[:80]})"


def _impossible_shape(size: tuple[int, int]) -> str | None:
    """What is wrong with the size of a picture, as its header tells it; None if it can be decoded."""
    width, height = size
    if width * height <= MOST_PIXELS and max(size) <= LONGEST_SHAPE * min(size):
        return None
    return (
        f"a picture of {width} x {height} pixels; at most {MOST_PIXELS:,} are read, and sides of 1 to {LONGEST_SHAPE}"
    )


@contextmanager
def opened_picture(source: str | bytes) -> Iterator[Image]:
    """The header of a picture in one of `FORMATS`, whatever the file's name; its pixels are decoded on request.

    Raises what `_unreadable` lists where the file, or the bytes, hold none.
    """
    import warnings

    from PIL import Image, UnidentifiedImageError

    with open_cell(source) if isinstance(source, str) else BytesIO(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise ValueError(f"it has too many pixels; at most {MOST_PIXELS:,} are read") from None
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
    """Mean and standard deviation of each channel, from 0 to 1, of a published processor; None if it does not say.

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
    """Whether `values` are that many finite numbers."""
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in values)
    )
