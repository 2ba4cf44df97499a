"""Files read byte by byte: which part of each, as tokens, and the sequence model that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import open_regular
from eir_seq.modalities.base import LENGTH, TOKENS, ragged
from eir_seq.modalities.bytes.config import BytesInputConfig
from eir_seq.modalities.cells import bytes_of, parse_cell
from eir_seq.modalities.file_cells import FileCells
from eir_seq.modalities.files import is_bytes, is_file, locate_content, missing, name_of, source_of
from eir_seq.modalities.json_state import JsonFittedModality, JsonModality
from eir_seq.modalities.sequence.attribution import Pieces, TokenAttribution
from eir_seq.modalities.sequence.batches import IDS, SequenceCollator
from eir_seq.modalities.sequence.tensors.base import TensorSource
from eir_seq.modalities.sequence.truncation import is_drawn
from eir_seq.tokenizers import Tokenizer, train_tokenizer
from eir_seq.tokenizers.framing import FIRST, Part
from eir_seq.tokenizers.training import SPECIAL_LIST

if TYPE_CHECKING:
    from eir_seq.modalities.encoders.backbone import SequenceEncoder
    from eir_seq.rows import Rows

FIRST_BYTE = len(SPECIAL_LIST)
"""The id of byte 0; special tokens have the ids before it."""


def _size(cell: Any) -> int:
    """The bytes of a cell that was located; raises `ValueError` if it holds none."""
    return len(bytes_of(cell)) if is_bytes(cell) else cell[1]


@dataclass(frozen=True)
class ByteCells(FileCells):
    """How the column of file names is read and checked."""

    name: str
    config: BytesInputConfig

    def find(self, text: str, folder: Path) -> Any:
        """The file that a cell names, or its bytes; raises `ValueError` with the reason where there is neither."""
        return locate_content(parse_cell(text), folder)

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the file of a row."""
        if isinstance(cell, str):
            yield missing(cell)
        elif not (is_file(cell) or is_bytes(cell)):
            yield f"is {str(cell)[:40]}, not the name of a file"
        else:
            try:
                if not _size(cell):
                    yield f"names {cell[0]}, which is empty" if is_file(cell) else "holds no bytes"
            except ValueError as error:
                yield str(error)


class FittedBytes(JsonFittedModality):
    """An input of bytes. Byte b has the id b + 5, after the special tokens; files have none of them."""

    config: BytesInputConfig
    vocabulary_key, length_key = "model.model_init_config", "max_length"
    sources: ClassVar[Mapping[str, TensorSource]] = {}
    backbone = None

    @property
    def cells(self) -> ByteCells:
        """How its column is read and checked."""
        return ByteCells(self.name, self.config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What a backbone learns of the tokens."""
        return train_tokenizer("byte", [])

    @property
    def max_length(self) -> int:
        """Tokens that are read of a file."""
        return self.config.max_length

    @property
    def collator(self) -> SequenceCollator:
        """Truncates and pads the bytes of a batch."""
        assert self.tokenizer.pad_id is not None, "a byte tokenizer has it"
        return SequenceCollator(
            name=self.name,
            parts=(Part(FIRST, 0),),
            room=self.max_length,
            strategy=self.config.truncation,
            pad_id=self.tokenizer.pad_id,
        )

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """The bytes of the part that is read (of windows: of the beginning they are drawn from), and lengths.

        Raises `UserError` for files that cannot be read any more.
        """
        files = [parse_cell(cell) for cell in rows[self.config.column]]
        ids = [self._part(cell).astype(np.uint16) + np.uint16(FIRST_BYTE) for cell in files]
        sizes = np.array([min(_size(cell), 2**31 - 1) for cell in files], np.int32)
        lengths = np.minimum([len(row) for row in ids], self.max_length).astype(np.int32)
        return {IDS: ragged(ids, np.uint16), TOKENS: pa.array(sizes), LENGTH: pa.array(lengths)}

    def _part(self, cell: Any) -> NDArray[np.uint8]:
        keep, strategy, source = self.max_length, self.config.truncation, source_of(cell)
        try:
            with open_regular(source) if isinstance(source, str) else BytesIO(source) as file:
                size = file.seek(0, 2)
                if is_drawn(strategy):
                    parts = [(0, self.config.max_bytes)]
                elif size <= keep or strategy == "head":
                    parts = [(0, keep)]
                else:
                    first = keep - keep // 2 if strategy == "middle-out" else 0
                    parts = [(0, first), (size - (keep - first), keep - first)]
                content = b""
                for start, count in parts:
                    file.seek(start)
                    content += file.read(count)
        except OSError as error:
            raise UserError(Fault(name_of(cell), f"cannot be read: {error.strerror or error}")) from None
        if not content:
            raise UserError(Fault(name_of(cell), "is empty"))
        return np.frombuffer(content, np.uint8)

    def show(self, rows: Mapping[str, Sequence[str]]) -> list[str]:
        """The names of the files."""
        return [name_of(parse_cell(cell)) for cell in rows[self.config.column]]

    def attributable(self, encoder: Any) -> TokenAttribution | None:
        """Its bytes."""
        table = encoder.token_table
        if table is None:
            return None
        specials = frozenset(range(FIRST_BYTE))
        return TokenAttribution("input_ids", table, self.collator, self.tokenizer.vocab_size, specials, self._pieces)

    def _pieces(self, rows: Mapping[str, Sequence[str]]) -> list[Pieces]:
        part = self._part(parse_cell(rows[self.config.column][0])).tolist()
        return [Pieces(self.config.column, [chr(byte) if 32 < byte < 127 else f"\\x{byte:02x}" for byte in part])]

    def describe(self) -> dict[str, Any]:
        """Length, and bytes per file of the training rows."""
        return {
            "type": "bytes",
            "column": self.config.column,
            "vocab_size": self.tokenizer.vocab_size,
            "max_length": self.max_length,
            "truncation": self.config.truncation,
            "bytes": self.state,
        }

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> SequenceEncoder:
        """The backbone with its pooling; raises `UserError` if it does not fit the bytes."""
        from eir_seq.modalities.encoders.backbone import build_sequence_encoder

        return build_sequence_encoder(self, data, pretrained=pretrained, task=task)


class Bytes(JsonModality):
    """An input of bytes, as configured."""

    FITTED = FittedBytes
    config: BytesInputConfig

    @property
    def cells(self) -> ByteCells:
        """How its column is read and checked."""
        return ByteCells(self.name, self.config)

    def learn(self, train_rows: Rows, seed: int) -> dict[str, Any]:
        """How large the files are."""
        del seed
        sizes = np.array([_size(parse_cell(cell)) for cell in train_rows[self.config.column]], np.int64)
        longer = float((sizes > self.config.max_length).mean())
        return {
            "min": int(sizes.min()),
            "mean": round(float(sizes.mean()), 1),
            "max": int(sizes.max()),
            "truncated": round(longer, 4),
        }
