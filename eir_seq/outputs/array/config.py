"""What an experiment may say about an output of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.decoders import DecoderBase
from eir_seq.config.kinds import decoders
from eir_seq.config.metrics import Metric
from eir_seq.config.strict import Several, ignored
from eir_seq.errors import Fault
from eir_seq.outputs.arrays.config import GridOutputBase
from eir_seq.outputs.arrays.decoder_configs import CnnDecoderConfig
from eir_seq.outputs.arrays.metrics import ARRAY_METRICS, CLASSES, NUMBERS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

    ArrayDecoder = DecoderBase
else:
    ArrayDecoder = decoders("array", default="cnn")


class ArrayOutputConfig(GridOutputBase):
    """An array of numbers, or of classes, of the same shape in all rows."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.array.output:ArrayOutput"
    METRICS: ClassVar[tuple[Metric, ...]] = ARRAY_METRICS
    TARGET: ClassVar[str] = "array"
    CELLS: ClassVar[str] = "eir_seq.outputs.array.cells:TargetArrays"

    type: Literal["array"] = "array"
    column: str = Field(
        description="column with the names of .npy or .npz files (FILE.npz:MEMBER), or with lists of numbers"
    )
    member: str | None = Field(None, description="the array in .npz files whose cells do not name one")
    channels_first: bool | None = Field(
        None, description="whether the first axis is that of channels; by default in arrays of three dimensions alone"
    )
    loss: Literal["mse", "mae", "categorical", "diffusion"] = Field(
        "mse",
        description="squared error or absolute error of numbers; or cross-entropy and soft Dice of classes, which are "
        "integers; or diffusion, which generates arrays of numbers",
    )
    normalization: Literal["element", "channel", "none"] = Field(
        "channel",
        description="standardize numbers for the loss by mean and standard deviation of the training rows: of each "
        "element, of each channel, or not at all",
    )
    ignored_values: list[int] = Field(
        default=[-1], description="values of loss categorical that are no class: such elements are not counted"
    )
    dice_weight: float = Field(
        1.0, ge=0, description="weight of the Dice loss, which is added to the cross-entropy of loss categorical"
    )
    max_classes: Several = Field(256, description="classes that the training rows of loss categorical may have")
    model: ArrayDecoder = Field(CnnDecoderConfig(), description="the decoder")

    def columns(self) -> dict[str, Column]:
        """The column of arrays."""
        return {self.column: Column(ColumnType.ARRAY)}

    def unmeasured(self) -> dict[str, str]:
        """Metrics of numbers, or those of classes."""
        others = NUMBERS if self.loss == "categorical" else CLASSES
        return {**super().unmeasured(), **{metric.name: f"with loss {self.loss!r}" for metric in others}}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of a loss that is not chosen; another member of the files that an input reads."""
        place = f"outputs.{name}"
        yield from self.grid_faults(name, sections)
        if self.loss == "categorical":
            yield from ignored(place, self, "normalization", "with loss 'categorical'")
        else:
            yield from ignored(place, self, "ignored_values dice_weight max_classes", f"with loss {self.loss!r}")
        for other, source in sections.inputs.items():
            if self.column in source.columns() and getattr(source, "member", None) != self.member:
                message = f"{self.member!r} differs from inputs.{other}.member, which reads the same column"
                yield Fault(f"{place}.member", f"{message}; name members in two columns, as FILE.npz:MEMBER")
