"""What an experiment may say about an input of numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.inputs import InputBase


class VectorInputConfig(InputBase):
    """Columns of numbers, read by a layer."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.vector.preprocess:Vector"

    type: Literal["vector"]
    numbers: list[str] = Field(min_length=1, description="columns")
    width: int = Field(8, ge=1, description="of the layer")

    def columns(self) -> dict[str, Column]:
        """The columns of numbers."""
        return {name: Column(ColumnType.NUMBER, "numbers") for name in self.numbers}
