"""What an experiment may say about any output of arrays or pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault
from eir_seq.outputs.arrays.metrics import HEADLINES
from eir_seq.outputs.diffusion.config import DiffusionOptions


class GridOutputBase(HeadOutputBase):
    """What every output has that predicts an array (channels, height, width) for each row."""

    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    UNLABELLED: ClassVar[str] = "none is scored"

    if TYPE_CHECKING:
        loss: str
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

    @property
    def writes_texts(self) -> bool:
        """Whether samples are drawn in evaluations."""
        return self.generates and self.diffusion.sample_rows > 0

    def unmeasured(self) -> dict[str, str]:
        """Metrics of samples, where none are drawn."""
        if not self.generates or self.diffusion.sample_rows:
            return {}
        names = (metric.name for metric in self.METRICS if metric.name != "loss")
        return dict.fromkeys(names, "on samples, of which diffusion.sample_rows is 0")

    def diffusion_faults(self, place: str) -> Iterator[Fault]:
        """Its own, or that there is none; the other decoder, which is not used."""
        if self.generates:
            yield from self.diffusion.faults(f"{place}.diffusion")
            yield from ignored(place, self, "model", "with loss 'diffusion'; its options are diffusion.unet")
        else:
            yield from ignored(place, self, "diffusion", f"with loss {self.loss!r}")
