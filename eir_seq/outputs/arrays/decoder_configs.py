"""The decoders of arrays and pictures and their options. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.decoders import DecoderBase
from eir_seq.config.strict import Name, Positive, Several, Strict
from eir_seq.errors import Fault, nearest
from eir_seq.outputs.diffusion.config import UNetOptions

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Probability = Annotated[float, Field(ge=0, lt=1)]
_OPTIONS = "its options"


class BlockDecoderOptions(Strict):
    """What decoders of residual blocks have."""

    dropout: Probability = Field(0.0, description="dropout in the residual blocks")
    stochastic_depth: Probability = Field(
        0.0, description="probability that a row skips the last block in training; smaller in earlier ones"
    )


class CnnDecoderOptions(BlockDecoderOptions):
    """Options of a residual convolutional decoder."""

    channel_exp_base: int = Field(4, ge=0, le=12, description="log2 of the number of channels of the last blocks")
    cutoff: Positive = Field(16, description="positions of the first feature map, at most")
    kernel_width: Positive = Field(3, description="width of the kernels, at most that of their input")
    kernel_height: Positive = Field(3, description="height of the kernels, at most that of their input")
    up_stride_width: Positive = Field(2, description="factor on the width at each upsampling")
    up_stride_height: Positive = Field(2, description="factor on the height at each upsampling")
    num_blocks: Positive = Field(1, description="residual blocks at each size")
    attention_cutoff: int = Field(0, ge=0, description="self-attention follows blocks with at most this many positions")


class LclDecoderOptions(BlockDecoderOptions):
    """Options of a locally connected decoder."""

    channel_exp_base: int = Field(3, ge=0, le=12, description="log2 of the number of channels of each unit")
    cutoff: Positive = Field(16, description="units of the first layer, at most")
    expansion: Several = Field(4, description="units that each unit of a block becomes")


class CnnDecoderConfig(DecoderBase):
    """A small feature map that residual convolutional blocks and upsampling make larger."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.arrays.decoders:CnnDecoder"

    model_type: Literal["cnn"] = "cnn"
    model_init_config: CnnDecoderOptions = Field(CnnDecoderOptions(), description=_OPTIONS)


class LclDecoderConfig(DecoderBase):
    """Locally connected residual blocks, each of whose units becomes several: every place has its own weights."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.arrays.decoders:LclDecoder"

    model_type: Literal["lcl"] = "lcl"
    model_init_config: LclDecoderOptions = Field(LclDecoderOptions(), description=_OPTIONS)


class UNetDecoderConfig(DecoderBase):
    """A U-Net that reads the values of inputs, arrays or pictures of the output's height and width."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.arrays.decoders:UNetDecoder"

    model_type: Literal["unet"] = "unet"
    inputs: list[Name] | None = Field(
        None, min_length=1, description="inputs that it reads, each with the encoder identity; by default all"
    )
    model_init_config: UNetOptions = Field(UNetOptions(), description=_OPTIONS)

    def state_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """The inputs that it reads."""
        return list(inputs) if self.inputs is None else self.inputs

    def faults(self, place: str, sections: Sections) -> Iterator[Fault]:
        """Inputs that do not exist, or whose encoder does not pass their values on."""
        for number, name in enumerate(self.inputs or ()):
            if name not in sections.input_names:
                listed = ", ".join(map(repr, sections.input_names))
                message = f"{name!r} is no input (there are: {listed}){nearest(name, sections.input_names)}"
                yield Fault(f"{place}.inputs[{number}]", message)
        for name in self.state_inputs(sections.input_names):
            source = sections.inputs.get(name)
            encoder = getattr(getattr(source, "model", None), "model_type", None)
            if source is not None and encoder == "identity" and (problem := source.grid_problem) is not None:
                yield Fault(f"{place}.model_type", f"unet reads values: inputs.{name} {problem}")
            if source is not None and encoder != "identity":
                message = f"unet reads values: set inputs.{name}.model.model_type=identity (array or image), or name"
                yield Fault(f"{place}.model_type", f"{message} others by inputs; it is {encoder!r}")
        yield from self.model_init_config.faults(f"{place}.model_init_config")
