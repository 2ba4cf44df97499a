"""What an experiment may say about diffusion. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from eir_seq.config.errors import faults_of
from eir_seq.config.strict import Name, Positive, Several, Strict, ignored
from eir_seq.errors import Fault, UserError, nearest

if TYPE_CHECKING:
    from eir_seq.config.inputs import InputBase
    from eir_seq.config.outputs import OutputBase
    from eir_seq.config.sections import Sections

BetaSchedule = Literal["linear", "scaled-linear", "cosine", "sigmoid"]
Prediction = Literal["epsilon", "v"]


class UNetOptions(Strict):
    """Options of a U-Net."""

    channels: Positive = Field(32, description="channels of the first level")
    multipliers: list[Positive] = Field(
        default=[1, 2, 4],
        min_length=1,
        max_length=8,
        description="channels of each level, as multiples of `channels`; each level halves the sides of the one before",
    )
    blocks: Positive = Field(1, description="residual blocks per level")
    kernel: Annotated[int, Field(ge=1, le=31)] = Field(3, description="width of the kernels; odd")
    attention_heads: int = Field(4, ge=0, description="heads of self-attention at the lowest level; 0: no attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")

    def faults(self, place: str) -> Iterator[Fault]:
        """Even kernels, and heads among which the channels cannot be shared out."""
        if self.kernel % 2 == 0:
            yield Fault(f"{place}.kernel", f"{self.kernel} is even; kernels are centred: {self.kernel + 1}, say")
        lowest = self.channels * self.multipliers[-1]
        if self.attention_heads and lowest % self.attention_heads:
            message = f"{lowest} channels of the lowest level cannot be shared out among {self.attention_heads} heads"
            yield Fault(f"{place}.attention_heads", message)


class SamplerOptions(Strict):
    """How samples are drawn, which `predict` may change."""

    sampler: Literal["ddpm", "ddim", "dpm-solver"] = Field(
        "ddim", description="ddpm (random), ddim (by default not, but for its start), or DPM-Solver++ of second order"
    )
    inference_steps: Positive = Field(
        50, description="steps of the U-Net per sample, at most `steps`; dpm-solver needs the fewest"
    )
    eta: float = Field(0.0, ge=0, le=1, description="randomness of the steps of ddim; 1 is ddpm")
    clip: bool = Field(
        True, description="keep the estimates of the clean sample within the range of the training targets"
    )
    guidance: float = Field(
        1.0,
        ge=0,
        le=100,
        description="scale of classifier-free guidance: 1 samples as trained, more follows the inputs more closely, 0 "
        "ignores them",
    )


def _shows(source: InputBase, output: OutputBase) -> bool:
    """Whether an input reads the column of an output in the same size and with its channels.

    In another size, or without colours, it shows less: details are to be added, or colours.
    """
    if not source.columns().keys() & output.columns().keys():
        return False
    same_size = getattr(source, "shape", None) == getattr(output, "shape", None)
    return same_size and getattr(source, "channels", 1) >= getattr(output, "channels", 1)


class DiffusionOptions(SamplerOptions):
    """How a diffusion model is trained and sampled (Ho et al. 2020, arXiv:2006.11239)."""

    steps: Several = Field(1000, description="noise levels of training")
    beta_schedule: BetaSchedule = Field(
        "cosine",
        description="how the variance of the noise that a step adds grows: linear; scaled-linear, its square root is "
        "linear; cosine, so that the signal falls along a cosine; or along a sigmoid",
    )
    prediction: Prediction = Field(
        "v", description="what the U-Net predicts: the noise (epsilon), or the velocity (v), which mixes it with signal"
    )
    condition_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="probability that a training row loses its condition (all inputs): a learned vector takes its "
        "place, so that samples can be guided",
    )
    inputs: list[Name] = Field(
        default=[],
        description="image and array inputs whose values are channels beside the noisy sample, resized to its height "
        "and width, so that the U-Net reads them at full resolution; the fused vector of all inputs is read besides",
    )
    sample_rows: int = Field(
        8, ge=0, description="evenly spaced validation rows for which samples are drawn at each evaluation; 0: none"
    )
    unet: UNetOptions = Field(
        default_factory=UNetOptions, description="the U-Net that denoises, with the options of the decoder unet"
    )

    def faults(self, place: str) -> Iterator[Fault]:
        """Steps that were not trained, estimates without bounds, guidance without what it needs, options without
        effect."""
        if self.inference_steps > self.steps:
            message = f"{self.inference_steps} is more than the {self.steps} steps of training"
            yield Fault(f"{place}.inference_steps", message)
        if self.sampler != "ddim":
            yield from ignored(place, self, "eta", f"with sampler {self.sampler!r}; ddim has it")
        if self.prediction == "epsilon" and self.beta_schedule == "cosine" and not self.clip:
            message = (
                "false needs prediction 'v' or another beta_schedule: 'cosine' ends in noise alone, where estimates by "
                "'epsilon' are divided by a signal of almost 0"
            )
            yield Fault(f"{place}.clip", message)
        if self.guidance != 1 and not self.condition_dropout:
            message = (
                f"{self.guidance:g} needs rows that are trained without their condition: "
                "a condition_dropout above 0, such as 0.1"
            )
            yield Fault(f"{place}.guidance", message)
        yield from self.unet.faults(f"{place}.unet")

    def input_faults(self, place: str, output: OutputBase, sections: Sections) -> Iterator[Fault]:
        """Inputs that do not exist, are named twice, have no values at positions, or show what `output` generates."""
        for number, name in enumerate(self.inputs):
            here, source = f"{place}.inputs[{number}]", sections.inputs.get(name)
            if name not in sections.input_names:
                listed = ", ".join(map(repr, sections.input_names))
                yield Fault(here, f"{name!r} is no input (there are: {listed}){nearest(name, sections.input_names)}")
            elif name in self.inputs[:number]:
                yield Fault(here, f"names {name!r} twice")
            elif source is not None and (problem := source.grid_problem) is not None:
                yield Fault(here, f"inputs.{name} {problem}")
            elif source is not None and _shows(source, output):
                column = min(output.columns())
                yield Fault(here, f"inputs.{name} shows column {column!r} as it is generated; there is nothing to draw")

    def sampling_with(self, options: Mapping[str, Any], place: str) -> Self:
        """The same with other options of `SamplerOptions`; raises `UserError` for values that cannot be."""
        known = SamplerOptions.model_fields
        faults = [
            Fault(f"{place}.{name}", f"is not an option of a sampler ({', '.join(known)}){nearest(name, known)}")
            for name in options
            if name not in known
        ]
        given = {**self.model_dump(), **{name: value for name, value in options.items() if name in known}}
        found = self
        try:
            found = type(self).model_validate(given)
            faults += found.faults(place)
        except ValidationError as error:
            faults += (fault.under(place) for fault in faults_of(error, type(self), given))
        if faults:
            raise UserError(*faults)
        return found
