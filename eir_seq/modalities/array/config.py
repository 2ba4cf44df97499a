"""What an experiment may say about an input of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.kinds import encoders
from eir_seq.modalities.array.encoder_configs import ArrayCnnConfig

if TYPE_CHECKING:
    ArrayEncoder = EncoderBase
else:
    ArrayEncoder = encoders("array", default="cnn")


class ArrayInputConfig(EncoderInputBase):
    """Arrays of numbers, of one to three dimensions and the same shape in all rows."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.array.preprocess:ArrayModality"
    NAMING: ClassVar[tuple[str, ...]] = ("column",)

    type: Literal["array"] = "array"
    column: str = Field(
        description="column with the names of .npy or .npz files (FILE.npz:MEMBER), or with lists of numbers"
    )
    member: str | None = Field(None, description="the array in .npz files whose cells do not name one")
    channels_first: bool | None = Field(
        None, description="whether the first axis is that of channels; by default in arrays of three dimensions alone"
    )
    normalization: Literal["element", "channel", "none"] = Field(
        "channel",
        description="subtract the mean of the training rows and divide by their standard deviation: of each element, "
        "of each channel, or not at all",
    )
    missing_mask: bool = Field(
        False, description="a second set of channels that is 1 where a value is missing (NaN), else 0"
    )
    model: ArrayEncoder = Field(ArrayCnnConfig(), description="the encoder")

    @property
    def grid_problem(self) -> None:
        """None: values are at positions."""
        return None

    def columns(self) -> dict[str, Column]:
        """The column of arrays."""
        return {self.column: Column(ColumnType.ARRAY)}
