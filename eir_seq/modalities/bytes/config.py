"""What an experiment may say about an input of raw bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class BytesInputConfig(EncoderInputBase):
    """Files of any kind, read byte by byte as a sequence."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.bytes.preprocess:Bytes"
    NAMING: ClassVar[tuple[str, ...]] = ("column",)

    type: Literal["bytes"] = "bytes"
    column: str = Field(description="column of file names (relative to the data file) or of their bytes (Parquet, Hub)")
    max_length: Annotated[int, Field(ge=1)] = Field(256, description="bytes that are read of each file")
    truncation: Literal["head", "tail", "middle-out", "random", "uniform"] = Field(
        "head",
        description="which part of longer files to read; random: a new window in each training epoch and the head in "
        "evaluation; uniform: random windows in evaluation too",
    )
    max_bytes: Annotated[int, Field(ge=1, le=2_000_000)] = Field(
        1_000_000, description="random, uniform: windows are drawn from that many bytes at the beginning of a file"
    )
    model: SequenceModelConfig = Field(description="the backbone, which reads one token per byte")

    def columns(self) -> dict[str, Column]:
        """The column of file names."""
        return {self.column: Column(ColumnType.FILE)}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the backbone, a published one, and options without effect."""
        yield from super().faults(name, sections)
        place = f"inputs.{name}"
        if self.model.pretrained_model:
            message = "must be false: published models number bytes in other ways"
            yield Fault(f"{place}.model.pretrained_model", message)
        if self.truncation not in ("random", "uniform"):
            yield from ignored(place, self, "max_bytes", f"with truncation: {self.truncation}")

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str]:
        """See `InputBase.tokens_of`: one token per byte."""
        return raw.get("max_length", 256), "max_length"
