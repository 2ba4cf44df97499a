"""What an experiment may say about the encoders of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.encoders import EncoderBase
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.strict import Positive, Strict, ignored
from eir_seq.errors import Fault, nearest
from eir_seq.hub import unlocatable
from eir_seq.modalities.encoders.options import CnnOptions, GridIdentityOptions
from eir_seq.models.options import ACTIVATIONS

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")
Rate = Annotated[float, Field(ge=0, lt=1)]


class ImageEncoderBase(EncoderBase):
    """What every encoder of pictures has."""

    SIZE: ClassVar[int] = 64
    """Height and width in pixels where neither the input nor published weights say."""

    @property
    def published(self) -> str | None:
        """What published weights are loaded, if any."""
        return None

    def problem_with_size(self, height: int, width: int) -> str | None:
        """Why it cannot read pictures of that size, if so."""
        del height, width
        return None


class ImageCnnOptions(CnnOptions):
    """Options of a residual convolutional network, with defaults for pictures."""

    channel_exp_base: int = Field(5, ge=0, le=12, description="log2 of the number of channels")
    kernel_width: Positive = Field(3, description="width of the kernels, at most that of their input")
    kernel_height: Positive = Field(3, description="height of the kernels, at most that of their input")
    down_stride_width: Positive = Field(2, description="stride along the width of downsampling blocks")
    down_stride_height: Positive = Field(2, description="stride along the height of downsampling blocks")
    first_conv_reduces: bool = Field(False, description="whether the first layer downsamples")
    down_sample_every_n_blocks: Positive = Field(
        1, description="blocks between two downsampling blocks, if layers is absent"
    )
    cutoff: Positive = Field(16, description="blocks are added until at most this many positions are left")
    output_size: Positive | None = Field(
        256, description="size of the vector, by a linear layer; null: all features side by side"
    )


class CnnConfig(ImageEncoderBase):
    """A residual convolutional network (He et al. 2016, arXiv:1603.05027), which keeps where something is."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.encoders.cnn:Cnn"

    model_type: Literal["cnn"] = "cnn"
    model_init_config: ImageCnnOptions = Field(ImageCnnOptions(), description="its options")


class PixelIdentityConfig(ImageEncoderBase):
    """The pixels themselves, one after another, such as for the U-Net of an output."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.encoders.identity:PixelIdentity"

    model_type: Literal["identity"] = "identity"
    model_init_config: GridIdentityOptions = Field(GridIdentityOptions(), description="its options")


class _WithWeights(ImageEncoderBase):
    """Published weights, and which of them learn."""

    freeze_pretrained_model: bool = Field(False, description="freeze all loaded weights")
    freeze: list[str] = Field([], description="published names of modules or tensors to freeze, or patterns (layer1.*)")

    def faults(self, place: str) -> Iterator[Fault]:
        """Freezing of weights that are random, and twice."""
        if self.published is None:
            yield from ignored(place, self, "freeze_pretrained_model freeze", "without published weights")
        elif self.freeze_pretrained_model:
            yield from ignored(place, self, "freeze", "with freeze_pretrained_model: true, which keeps all")


class ResNetOptions(Strict):
    """The published architecture, and one change of it."""

    depth: Literal[18, 34, 50, 101, 152] = Field(50, description="18 and 34 have basic blocks, the others bottlenecks")
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="imagenet: 7 x 7 convolution of stride 2 and max pooling, as published; small: 3 x 3 of stride 1 "
        "without pooling, for pictures of less than about 100 pixels (from scratch)",
    )


class ResNetConfig(_WithWeights):
    """ResNet (He et al. 2015, arXiv:1512.03385), tensor for tensor as torchvision publishes its weights."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.encoders.resnet:ResNet"
    SIZE: ClassVar[int] = 224

    model_type: Literal["resnet"] = "resnet"
    weights: str | None = Field(
        None, min_length=1, description="file of published torchvision weights (resnet50-11ad3fa6.pth or .safetensors)"
    )
    model_init_config: ResNetOptions = Field(ResNetOptions(), description="its options")

    @property
    def published(self) -> str | None:
        """The file."""
        return self.weights

    def faults(self, place: str) -> Iterator[Fault]:
        """A stem that no published weights have."""
        yield from super().faults(place)
        if self.weights is not None and self.model_init_config.stem != "imagenet":
            yield Fault(f"{place}.model_init_config.stem", "published weights have stem: imagenet")

    def preflight(self, place: str) -> Iterator[Fault]:
        """A file that is not there."""
        if self.weights is not None:
            yield from missing_weights(f"{place}.weights", self.weights)


class VitOptions(Strict):
    """Options of the architecture by their names in transformers; published weights bring their own."""

    hidden_size: Positive = Field(768, description="width of the states of patches")
    num_hidden_layers: Positive = Field(12, description="number of layers")
    num_attention_heads: Positive = Field(12, description="attention heads per layer; they divide hidden_size")
    intermediate_size: Positive = Field(3072, description="inner width of the feed-forward block")
    patch_size: Positive = Field(16, description="height and width of a patch in pixels; it divides those of a picture")
    hidden_act: Literal[ACTIVATIONS] = Field(  # type: ignore[valid-type]
        "gelu", description="activation of the feed-forward block"
    )
    hidden_dropout_prob: Rate = Field(0.0, description="dropout on embeddings and on what each sublayer adds")
    attention_probs_dropout_prob: Rate = Field(0.0, description="dropout on attention weights")
    layer_norm_eps: float = Field(1e-12, ge=0, description="added to the variance in layer norms")
    qkv_bias: bool = Field(True, description="biases of queries, keys and values")
    initializer_range: float = Field(0.02, ge=0, description="standard deviation of fresh weights")


class VitConfig(_WithWeights):
    """Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): patches as tokens, after one for the whole."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.encoders.vit:Vit"
    SIZE: ClassVar[int] = 224

    model_type: Literal["vit"] = "vit"
    weights: str | None = Field(
        None, min_length=1, description="folder or Hub id of a published ViT in the layout of transformers"
    )
    pool: Literal["first", "avg"] = Field("first", description="state of the first token, or the mean of the patches")
    model_init_config: VitOptions = Field(VitOptions(), description="its options")

    @property
    def published(self) -> str | None:
        """The folder or Hub id."""
        return self.weights

    def faults(self, place: str) -> Iterator[Fault]:
        """Heads that do not divide the width; options that published weights decide."""
        yield from super().faults(place)
        options, here = self.model_init_config, f"{place}.model_init_config"
        if self.weights is not None:
            own = "hidden_dropout_prob attention_probs_dropout_prob"
            keys = " ".join(key for key in VitOptions.model_fields if key not in own.split())
            yield from ignored(here, options, keys, "with weights, which bring their own")
        elif options.hidden_size % options.num_attention_heads:
            heads = options.num_attention_heads
            yield Fault(f"{here}.hidden_size", f"{options.hidden_size} is not divisible by num_attention_heads {heads}")

    def problem_with_size(self, height: int, width: int) -> str | None:
        """Patches that do not fill the picture."""
        side = self.model_init_config.patch_size
        if self.weights is None and (height % side or width % side):
            return f"{height} x {width} pixels are not divisible into patches of {side} (model_init_config.patch_size)"
        return None

    def preflight(self, place: str) -> Iterator[Fault]:
        """A path that is not there; what looks like a Hub id may be one."""
        if self.weights is not None and (problem := unlocatable(self.weights)) is not None:
            yield Fault(f"{place}.weights", problem)


class TimmConfig(_WithWeights):
    """Any image model of the package timm, by its name."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.image.encoders.timm:Timm"
    SIZE: ClassVar[int] = 224

    model_type: str = Field(pattern="^timm/", description="timm/NAME, such as timm/resnet18 or timm/efficientnet_b0")
    pretrained_model: bool = Field(False, description="load the weights that the package names (from the Hub)")
    model_init_config: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="further arguments of timm.create_model, such as drop_path_rate"
    )

    @property
    def published(self) -> str | None:
        """The name, if its weights are wanted."""
        return self.name if self.pretrained_model else None

    @property
    def name(self) -> str:
        """Its name in timm."""
        return self.model_type.removeprefix("timm/")

    def faults(self, place: str) -> Iterator[Fault]:
        """Arguments that the input decides."""
        yield from super().faults(place)
        for key in ("pretrained", "in_chans", "num_classes", "global_pool", "checkpoint_path", "features_only"):
            if key in self.model_init_config:
                yield Fault(f"{place}.model_init_config.{key}", "is decided by the input; leave it out")

    def preflight(self, place: str) -> Iterator[Fault]:
        """The package."""
        if not is_installed("timm"):
            yield Fault(f"{place}.model_type", missing_package("timm"))


def missing_weights(place: str, value: str) -> Iterator[Fault]:
    """A file of weights that is not there, or is none by its suffix.

    Args:
        place: config path of the value.
        value: the path.
    """
    path = Path(value).expanduser()
    if not path.is_file():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        yield Fault(place, f"there is no file {value!r}{nearest(path.name, names)}")
    elif path.suffix not in WEIGHT_FILES:
        yield Fault(place, f"{value!r} is no file of weights ({', '.join(WEIGHT_FILES)})")
