"""A text and the target text from it: the same tokenizer for both, the target as labels of a decoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from eir_seq.config.outputs import TargetText
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import LENGTH, STATE_FILE, RowSource, ragged
from eir_seq.modalities.sequence.batches import SequenceCollator
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.modalities.sequence.preprocess import SequenceModality, batches_of
from eir_seq.modalities.sequence.truncation import Ids
from eir_seq.randomness import Draw
from eir_seq.tokenizers.targets import encode_targets, padded_labels, target_end, target_frame

if TYPE_CHECKING:
    from eir_seq.rows import Rows

TARGET_IDS, TARGET_LENGTH = "target_ids", "target_length"
"""Encoded columns: what the decoder is to write, special tokens included, and how long that is; 0 without a target."""


@dataclass(frozen=True, kw_only=True)
class Seq2SeqModality(SequenceModality):
    """The source of a sequence-to-sequence output, as configured; `output` has the column of the targets."""

    output: TargetText

    def fit(self, train_rows: Rows, seed: int) -> FittedSeq2Seq:
        """As for any sequence, with a tokenizer that is trained on sources and targets.

        Raises `UserError` for one without a token that ends a text.
        """
        source = super().fit(train_rows, seed)
        known = {declared.name: getattr(source, declared.name) for declared in fields(source)}
        column, most = self.output.column, self.output.max_length
        fitted = FittedSeq2Seq(**known, target_column=column, target_max_length=most)
        specials = fitted.target_specials
        if most <= specials:
            message = f"max_length {most} leaves no room for text next to the {specials} special tokens of a target"
            raise UserError(Fault("outputs", message))
        lengths = np.concatenate([[len(ids) for ids in fitted.target_ids(part)] for part in _parts(train_rows, column)])
        described = {"mean": round(float(lengths.mean()), 1), "max": int(lengths.max())}
        cut = round(float((lengths == most).mean()), 4)
        return replace(fitted, target_statistics={**described, "cut": cut} if cut else described)

    @property
    def _text_columns(self) -> list[str]:
        return list(dict.fromkeys([*super()._text_columns, self.output.column]))

    def _texts(self, rows: Rows) -> Iterator[str]:
        yield from super()._texts(rows)
        for part in _parts(rows, self.output.column):
            yield from (text[: self.config.max_characters] for text in part)


@dataclass(kw_only=True)
class FittedSeq2Seq(FittedSequence):
    """A source with its tokenizer and lengths, and the column of the targets.

    `target_max_length`: tokens per target at most. `target_statistics`: tokens of the training targets, `max` of them
    the longest one's.
    """

    COSTS = (LENGTH, TARGET_LENGTH)

    target_column: str = ""
    target_max_length: int = 0
    target_statistics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the source and that of the target."""
        return (*super().columns, self.target_column)

    @property
    def end(self) -> int:
        """The token that ends a written text."""
        return target_end(self.tokenizer, f"inputs.{self.name}.tokenizer")

    @property
    def target_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a target; one that ends it is among the latter."""
        return target_frame(self.tokenizer, f"inputs.{self.name}.tokenizer")

    @property
    def target_specials(self) -> int:
        """Special tokens of a target."""
        return sum(map(len, self.target_frame))

    @property
    def collator(self) -> Seq2SeqCollator:
        """Makes tensors of sources and targets."""
        source = super().collator
        return Seq2SeqCollator(**{declared.name: getattr(source, declared.name) for declared in fields(source)})

    def target_ids(self, texts: Sequence[str | None]) -> list[Ids]:
        """What the decoder is to write: the beginning of each text that fits, in its special tokens.

        All end with the token that ends a text, those that are cut too, and those that spell it themselves once.
        """
        limit = self.config.max_characters
        cut = [None if text is None else text[:limit] for text in texts]
        return encode_targets(self.tokenizer, cut, self.target_max_length, f"inputs.{self.name}.tokenizer")

    def columns_of_texts(self, texts: Sequence[str]) -> dict[str, list[str | None]]:
        """The columns of rows without targets, whose sources are these."""
        return {self.config.column: list(texts), self.target_column: [None] * len(texts)}

    def fingerprint(self) -> str:
        """Hash of all that `encode` depends on."""
        target = (self.target_column, self.target_max_length, self.target_frame)
        return hashlib.sha256(f"{super().fingerprint()} {target}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """The columns of the source, and those of the target."""
        targets = self.target_ids(rows[self.target_column])
        lengths = pa.array([len(ids) for ids in targets], pa.int32())
        return {**super().encode(rows), TARGET_IDS: ragged(targets), TARGET_LENGTH: lengths}

    def describe(self) -> dict[str, Any]:
        """That of the source, and tokens per target of the training rows after truncation."""
        target = {"column": self.target_column, "max_length": self.target_max_length, **self.target_statistics}
        return {**super().describe(), "target": target}

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the tokenizer's files into `folder`."""
        super().save(folder)
        path = Path(folder) / STATE_FILE
        own = {name: getattr(self, name) for name in ("target_column", "target_max_length", "target_statistics")}
        state = {**read_json(path), "type": "seq2seq", "target": own}
        path.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedSeq2Seq:
        """What `save` wrote; raises `UserError` if files are missing or damaged."""
        fitted = super().load(folder)
        assert isinstance(fitted, cls)
        path = Path(folder) / STATE_FILE
        try:
            return replace(fitted, **read_json(path)["target"])
        except (KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted source ({type(error).__name__}: {error})")) from None


@dataclass(frozen=True)
class Seq2SeqCollator(SequenceCollator):
    """Sources and targets to tensors."""

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """Those of the sources, and `labels` (batch, target length): ids of the targets, `IGNORED` after their end."""
        return {**super().__call__(encoded, rows, draw), "labels": padded_labels(encoded.sequences(TARGET_IDS, rows))}


def _parts(rows: Rows, column: str) -> Iterator[list[str]]:
    for batch in batches_of(rows, [column]):
        yield batch[column]
