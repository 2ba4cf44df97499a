"""What an experiment may say about an output of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.decoders import DecoderBase
from eir_seq.config.kinds import decoders
from eir_seq.config.metrics import Metric
from eir_seq.config.strict import Positive, ignored
from eir_seq.errors import Fault
from eir_seq.outputs.arrays.config import GridOutputBase
from eir_seq.outputs.arrays.decoder_configs import CnnDecoderConfig
from eir_seq.outputs.arrays.metrics import PICTURE_METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

    ImageDecoder = DecoderBase
else:
    ImageDecoder = decoders("image", default="cnn")

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
Sides = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class ImageOutputConfig(GridOutputBase):
    """A picture of the same size and mode in all rows."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.image.output:ImageOutput"
    METRICS: ClassVar[tuple[Metric, ...]] = PICTURE_METRICS
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("r2", "psnr", "ssim", "mse"),)
    TARGET: ClassVar[str] = "picture"
    CELLS: ClassVar[str] = "eir_seq.outputs.image.cells:TargetPictures"

    type: Literal["image"] = "image"
    column: str = Field(
        description="column of image files (names relative to the data file), or of their bytes (Parquet, Hub)"
    )
    size: Positive | Sides | None = Field(
        None,
        description="height and width in pixels, one number or [height, width], to which targets are resized; by "
        "default all have the size of most of the first ones, and others are refused",
    )
    mode: Literal["L", "RGB", "RGBA"] = Field(
        "RGB", description="channels, to which targets are converted: gray, RGB colours, or colours with transparency"
    )
    resize: Literal["squeeze", "crop"] = Field(
        "squeeze", description="squeeze: resize the whole image; crop: center crop"
    )
    loss: Literal["mse", "mae", "diffusion"] = Field(
        "mse",
        description="squared or absolute error of the pixels, each channel standardized; or diffusion, which generates",
    )
    model: ImageDecoder = Field(CnnDecoderConfig(), description="the decoder")

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return CHANNELS[self.mode]

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width in pixels, where the config says them."""
        if self.size is None:
            return None
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def columns(self) -> dict[str, Column]:
        """The column of pictures."""
        return {self.column: Column(ColumnType.FILE)}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of resizing, where nothing is resized."""
        yield from self.grid_faults(name, sections)
        if self.size is None:
            yield from ignored(f"outputs.{name}", self, "resize", "without size: pictures are not resized")
