"""What an experiment may say about any output of arrays or pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from eir_seq.config.decoders import DecoderBase
from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault
from eir_seq.outputs.arrays.metrics import HEADLINES
from eir_seq.outputs.diffusion.config import DiffusionOptions

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class GridOutputBase(HeadOutputBase):
    """What every output has that predicts an array (channels, height, width) for each row."""

    REPORT: ClassVar[str] = "eir_seq.outputs.arrays.report:section"
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    UNLABELLED: ClassVar[str] = "none is scored"

    if TYPE_CHECKING:
        loss: str
        model: DecoderBase
    diffusion: DiffusionOptions = Field(
        default_factory=DiffusionOptions, description="options of loss diffusion, whose U-Net replaces the decoder"
    )

    @property
    def generates(self) -> bool:
        """Whether predictions are samples of a diffusion model."""
        return self.loss == "diffusion"

    @property
    def has_row_losses(self) -> bool:
        """Not those of a diffusion model, whose network reads the target."""
        return not self.generates

    def unmeasured(self) -> dict[str, str]:
        """Metrics of samples, where none are drawn."""
        if not self.generates or self.diffusion.sample_rows:
            return {}
        names = (metric.name for metric in self.METRICS if metric.name != "loss")
        return dict.fromkeys(names, "on samples, of which diffusion.sample_rows is 0")

    @property
    def decoder(self) -> str:
        """What makes arrays of features."""
        return "unet" if self.generates else self.model.model_type

    def state_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """What the decoder reads in place of the fused vector."""
        return () if self.generates else self.model.state_inputs(inputs)

    @property
    def grid_inputs(self) -> Sequence[str]:
        """What the U-Net of a diffusion model reads position by position."""
        return self.diffusion.inputs if self.generates else ()

    def grid_faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the decoder, and options that have no effect with it."""
        place = f"outputs.{name}"
        yield from self.diffusion_faults(place, sections)
        if self.generates:
            return
        yield from self.model.faults(f"{place}.model", sections)
        if self.model.state_inputs(sections.input_names):
            yield from ignored(place, self, "head dropout", f"with model {self.model.model_type}, which reads inputs")

    def diffusion_faults(self, place: str, sections: Sections) -> Iterator[Fault]:
        """Its own, or that there is none; the other decoder, which is not used."""
        if self.generates:
            yield from self.diffusion.faults(f"{place}.diffusion")
            yield from self.diffusion.input_faults(f"{place}.diffusion", self, sections)
            yield from ignored(place, self, "model", "with loss 'diffusion'; its options are diffusion.unet")
        else:
            yield from ignored(place, self, "diffusion", f"with loss {self.loss!r}")
