"""What an experiment may say about an image input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.kinds import encoders
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.strict import Positive, Strict, ignored
from eir_seq.errors import Fault
from eir_seq.modalities.image.encoders.config import ImageEncoderBase
from eir_seq.registry import encoders_of

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

    ImageModelConfig = EncoderBase
else:
    ImageModelConfig = encoders("image", otherwise=SequenceModelConfig)

KIND = "image"
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
Sides = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Strict):
    """Random changes of training pictures, redrawn in each epoch."""

    policy: Literal["none", "trivial", "rand"] = Field(
        "none",
        description="trivial: one operation of random strength (TrivialAugment, wide; arXiv:2103.10158); rand: several "
        "of one strength (RandAugment; arXiv:1909.13719)",
    )
    operations: Annotated[int, Field(ge=1, le=15)] = Field(2, description="operations of rand per picture")
    magnitude: Annotated[int, Field(ge=1, le=29)] = Field(10, description="strength of rand")
    horizontal_flip: Probability = Field(0.0, description="probability of exchanging left and right")
    vertical_flip: Probability = Field(0.0, description="probability of exchanging top and bottom")

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return self.policy == "none" and not self.horizontal_flip and not self.vertical_flip


NAMED = {
    "none": AugmentationConfig(),
    "flip": AugmentationConfig(horizontal_flip=0.5),
    "trivial": AugmentationConfig(policy="trivial"),
    "rand": AugmentationConfig(policy="rand"),
}


class ImageInputConfig(EncoderInputBase):
    """Pictures: their pixels, or one token per pixel for architectures of the catalogue."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.preprocess:ImageModality"
    NAMING: ClassVar[tuple[str, ...]] = ("column",)

    type: Literal["image"]
    column: str = Field(
        description="column of image files (names relative to the data file), or of their bytes (Parquet, Hub)"
    )
    size: Positive | Sides | None = Field(
        None,
        description="height and width in pixels, one number or [height, width]; by default those of published weights, "
        "else 64 (cnn), 224 (resnet, vit, timm) or 32 (one token per pixel)",
    )
    mode: Literal["L", "RGB", "RGBA"] | None = Field(
        None, description="channels of the pixels: gray, RGB colours (default), or colours with transparency"
    )
    resize: Literal["squeeze", "crop", "random-crop"] | None = Field(
        None,
        description="squeeze (default): resize the whole image; crop: center crop; random-crop: another crop in each "
        "epoch, the center crop in evaluation",
    )
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="side of a crop relative to the resized image; 1 for crop, 0.875 for random-crop"
    )
    mean: list[float] | None = Field(
        None,
        min_length=1,
        max_length=4,
        description="mean of each channel on a scale from 0 to 1, which is subtracted; by default that of published "
        "weights, else measured on training images",
    )
    std: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, min_length=1, max_length=4, description="standard deviation of each channel, by which pixels are divided"
    )
    augmentation: Literal["none", "flip", "trivial", "rand"] | AugmentationConfig = Field(
        "none", description="random changes of training images: a name, or options"
    )
    colours: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        None,
        description="size of the palette that is fitted to the training images (512), for one token per pixel; a "
        "pretrained model has its own",
    )
    model: ImageModelConfig = Field(
        description="what reads the pixels; or an architecture of the catalogue, which reads one token per pixel"
    )

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return CHANNELS[self.mode or "RGB"]

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width in pixels, where the config says them."""
        if self.size is None:
            return None
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    @property
    def augments(self) -> AugmentationConfig:
        """How training pictures are changed."""
        return NAMED[self.augmentation] if isinstance(self.augmentation, str) else self.augmentation

    @property
    def grid_problem(self) -> str | None:
        """Pixels as tokens, and pixels that are moved, as targets are not."""
        if self.model.backbone is not None:
            return "is read as one token per pixel; choose an encoder of pixels"
        if not self.augments.is_empty:
            return "has an augmentation, which moves pixels; those of the target stay where they are"
        if self.resize == "random-crop":
            return "has resize: random-crop, which moves pixels; those of the target stay where they are"
        return None

    def columns(self) -> dict[str, Column]:
        """The column of pictures."""
        return {self.column: Column(ColumnType.FILE)}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the model, and options that have no effect with it."""
        yield from super().faults(name, sections)
        place = f"inputs.{name}"
        yield from self._faults_of_tokens(place) if self.model.backbone else self._faults_of_pixels(place)

    def _faults_of_tokens(self, place: str) -> Iterator[Fault]:
        assert self.model.backbone is not None
        if self.model.backbone.pretrained_model:
            reason = "with a pretrained model, which has its own"
            yield from ignored(place, self, "size resize colours", reason)
        elif isinstance(self.size, list):
            yield Fault(f"{place}.size", f"{self.size} is not one number; pixels as tokens are those of a square")
        elif self.resize == "random-crop":
            yield Fault(f"{place}.resize", "'random-crop' is for encoders of pixels; use squeeze or crop")
        kinds = ", ".join(encoders_of(KIND))
        reason = f"where an architecture of the catalogue reads pixels as tokens; encoders of pixels ({kinds}) use it"
        yield from ignored(place, self, "mode crop_pct mean std augmentation", reason)

    def _faults_of_pixels(self, place: str) -> Iterator[Fault]:
        model = self.model.model_type
        yield from ignored(place, self, "colours", f"with {model}, which reads pixels without a palette")
        if self.resize in (None, "squeeze"):
            yield from ignored(place, self, "crop_pct", "without resize: crop or random-crop")
        for key, other in (("mean", "std"), ("std", "mean")):
            values = getattr(self, key)
            if values is not None and len(values) != self.channels:
                message = f"has {len(values)} numbers; mode {self.mode or 'RGB'} has {self.channels} channels"
                yield Fault(f"{place}.{key}", message)
            if values is not None and getattr(self, other) is None:
                yield Fault(f"{place}.{other}", f"is missing; {key} is given")
        yield from self._faults_of_augmentation(f"{place}.augmentation")
        if isinstance(self.model, ImageEncoderBase) and self.shape is not None:
            problem = self.model.problem_with_size(*self.shape)
            yield from () if problem is None else (Fault(f"{place}.size", problem),)

    def _faults_of_augmentation(self, place: str) -> Iterator[Fault]:
        if self.augments.policy != "rand":
            yield from ignored(place, self.augments, "operations magnitude", "without policy: rand")
        if self.augments.policy != "none" and self.mode == "RGBA":
            yield Fault(place, f"policy {self.augments.policy!r} changes colours or gray; with RGBA, use flips only")

    def preflight(self, place: str) -> Iterator[Fault]:
        """What the model needs, and the package that augments."""
        yield from super().preflight(place)
        if not self.augments.is_empty and not is_installed("kornia"):
            yield Fault(f"{place}.augmentation", missing_package("kornia", extra="images"))

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str] | None:
        """See `InputBase.tokens_of`: one token per pixel, where an architecture of the catalogue reads them."""
        model = raw.get("model")
        if isinstance(model, Mapping) and str(model.get("model_type")).partition("/")[0] in encoders_of(KIND):
            return None
        pretrained = isinstance(model, Mapping) and model.get("pretrained_model") is True
        size = raw.get("size", None if pretrained else 32)
        return size**2 if isinstance(size, int) else None, "size"
