"""What an experiment may say about an image input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.strict import Positive, ignored
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class ImageInputConfig(EncoderInputBase):
    """Pictures, read colour by colour as imagegpt reads them."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.preprocess:ImageModality"

    type: Literal["image"]
    column: str = Field(description="column with the name of an image file, relative to the data file")
    size: Positive | None = Field(
        None, description="image height and width in pixels; by default 32, or that of the pretrained model"
    )
    resize: Literal["squeeze", "crop"] | None = Field(
        None, description="squeeze (default): resize the whole image to a square; crop: center crop"
    )
    colours: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        None,
        description="size of the palette that is fitted to the training images (512); a pretrained model has its own",
    )
    model: SequenceModelConfig = Field(description="the backbone, which reads one token per pixel")

    def columns(self) -> dict[str, Column]:
        """The column of file names."""
        return {self.column: Column(ColumnType.FILE)}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the backbone, and options that a pretrained one decides."""
        yield from super().faults(name, sections)
        if self.model.pretrained_model:
            reason = "with a pretrained model, which has its own"
            yield from ignored(f"inputs.{name}", self, "size resize colours", reason)

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str]:
        """See `InputBase.tokens_of`: one token per pixel."""
        model = raw.get("model")
        pretrained = isinstance(model, Mapping) and model.get("pretrained_model") is True
        size = raw.get("size", None if pretrained else 32)
        return size**2 if isinstance(size, int) else None, "size"
