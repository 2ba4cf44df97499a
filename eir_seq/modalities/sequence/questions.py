"""A question and the text that may hold its answer, in one sequence; long texts in overlapping windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eir_seq.config.outputs import NO_ANSWER, Questions
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import LENGTH, STATE_FILE, TOKENS, RowSource, ragged
from eir_seq.modalities.sequence.batches import IDS, PAIR_IDS, SequenceCollator
from eir_seq.modalities.sequence.fitted import SHORTENED, UNKNOWN, FittedSequence
from eir_seq.modalities.sequence.preprocess import SequenceModality
from eir_seq.modalities.sequence.tensors.base import Content
from eir_seq.modalities.sequence.tokens import tokenize
from eir_seq.modalities.sequence.truncation import Numbers
from eir_seq.randomness import Draw
from eir_seq.tokenizers.framing import FIRST, SECOND

if TYPE_CHECKING:
    from eir_seq.rows import Rows

STARTS, ENDS = "starts", "ends"
"""Encoded columns: the characters where each token of a text begins and ends."""


@dataclass(frozen=True, kw_only=True)
class QuestionModality(SequenceModality):
    """A text and the question about it, as configured."""

    questions: Questions

    def fit(self, train_rows: Rows, seed: int) -> FittedQuestions:
        """As for any pair of texts; raises `UserError` for a stride that no window has room for."""
        fitted = super().fit(train_rows, seed)
        known = {declared.name: getattr(fitted, declared.name) for declared in fields(fitted)}
        found = FittedQuestions(**known, stride=self.questions.stride)
        if self.questions.stride is not None and self.questions.stride > (room := found.least_room):
            message = f"stride {self.questions.stride} is more than the {room} tokens that remain for the text"
            hint = f"beside the longest question; raise max_length ({found.max_length}) or lower the stride"
            raise UserError(Fault(f"inputs.{self.name}.max_length", f"{message} {hint}"))
        return found


@dataclass(kw_only=True)
class FittedQuestions(FittedSequence):
    """A text and the question about it, which comes first.

    `stride`: tokens by which windows are apart; None: longer texts are cut.
    """

    stride: int | None = field(default=None)

    @property
    def least_room(self) -> int:
        """Tokens left for a text next to the longest question: questions get half of the room at most."""
        return self._room - self._room // 2

    @property
    def collator(self) -> QuestionCollator:
        """Makes tensors of questions and windows of texts."""
        source = super().collator
        # The format has the question first.
        swapped = {FIRST: SECOND, SECOND: FIRST}
        parts = tuple(part._replace(token=swapped.get(part.token, part.token)) for part in source.parts)
        known = {declared.name: getattr(source, declared.name) for declared in fields(source)}
        return QuestionCollator(**{**known, "parts": parts}, stride=self.stride)

    def fingerprint(self) -> str:
        """Hash of all that `encode` depends on."""
        return hashlib.sha256(f"questions {super().fingerprint()} {self.stride}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """Ids of the whole texts and their characters, and ids of the questions; `length` is that of all windows."""
        assert self.config.pair_column is not None
        texts = [Content(text=text) for text in rows[self.config.column]]
        questions = [Content(text=text) for text in rows[self.config.pair_column]]
        read = tokenize(self.tokenizer, texts, self.config.max_characters, offsets=True)
        asked = tokenize(self.tokenizer, questions, self.config.max_characters)
        assert read.offsets is not None
        specials = self.max_length - self._room
        tokens, lengths = [], []
        for text, question in zip(read.ids, asked.ids, strict=True):
            kept, starts = windows(len(text), len(question), self._room, self.stride)
            overhead = specials + min(len(question), self._room // 2)
            tokens.append(specials + len(text) + len(question))
            lengths.append(sum(min(kept, len(text) - start) + overhead for start in starts))
        unknown = [self._count_unknown(a) + self._count_unknown(b) for a, b in zip(read.ids, asked.ids, strict=True)]
        return {
            TOKENS: pa.array(tokens, pa.int32()),
            LENGTH: pa.array(lengths, pa.int32()),
            SHORTENED: pa.array(np.maximum(read.shortened, asked.shortened)),
            UNKNOWN: pa.array(unknown, pa.int32()),
            IDS: ragged(read.ids),
            PAIR_IDS: ragged(asked.ids),
            STARTS: ragged([spans[:, 0] for spans in read.offsets]),
            ENDS: ragged([spans[:, 1] for spans in read.offsets]),
        }

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings as for any text, and about texts whose ends are not read."""
        warnings, cut = super().review(encoded, split), int((encoded.numbers(TOKENS) > self.max_length).sum())
        if cut and self.stride is None:
            what = f"{cut:,} of {len(encoded.numbers(TOKENS)):,} {split} rows are longer than {self.max_length} tokens"
            hint = "the ends of their texts are not read (stride of the output reads them in windows)"
            warnings.append(f"inputs.{self.name}: {what}; {hint}")
        return warnings

    def show(self, rows: Mapping[str, Sequence[str]]) -> list[str]:
        """The question, then the text."""
        assert self.config.pair_column is not None
        pairs = zip(rows[self.config.pair_column], rows[self.config.column], strict=True)
        return [f"{question} | {text}" for question, text in pairs]

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the tokenizer's files into `folder`."""
        super().save(folder)
        path = Path(folder) / STATE_FILE
        state = {**read_json(path), "type": "questions", "stride": self.stride}
        path.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedQuestions:
        """What `save` wrote; raises `UserError` if files are missing or damaged."""
        fitted = super().load(folder)
        assert isinstance(fitted, cls)
        stride = read_json(Path(folder) / STATE_FILE).get("stride")
        return replace(fitted, stride=stride if isinstance(stride, int) else None)


def windows(length: int, question: int, room: int, stride: int | None) -> tuple[int, list[int]]:
    """Tokens of a text that one window has, and where the windows begin.

    A question longer than half of the room is cut to that. The last window ends with the text.

    Args:
        length: tokens of the text.
        question: tokens of the question.
        room: tokens of both that a sequence has.
        stride: by which windows are apart; None: there is one.

    Example:
        >>> windows(10, 2, 6, 3)
        (4, [0, 3, 6])
        >>> windows(10, 2, 6, None)
        (4, [0])
    """
    kept = room - min(question, room // 2)
    if stride is None or length <= kept:
        return kept, [0]
    return kept, [*range(0, length - kept, stride), length - kept]


@dataclass(frozen=True)
class QuestionCollator(SequenceCollator):
    """Questions and windows of texts to tensors."""

    stride: int | None = None

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """Those of sequences, each with a question and a window, and `offsets` and `window_rows`.

        In training each row has one of its windows, redrawn in each epoch; otherwise it has all of them, one after
        another. `offsets` (sequences, length, 2) are the characters of the text's tokens, -1 at other tokens but for
        `NO_ANSWER` at the first. `window_rows` (sequences,) are the rows' numbers in the batch.
        """
        texts, questions = encoded.sequences(IDS, rows), encoded.sequences(PAIR_IDS, rows)
        starts, ends = encoded.sequences(STARTS, rows), encoded.sequences(ENDS, rows)
        pieces: list[tuple[int, Numbers]] = []
        for index, row in enumerate(rows):
            size, begins = windows(len(texts[index]), len(questions[index]), self.room, self.stride)
            if draw.epoch is not None:
                begins = [begins[draw.below(len(begins), self.name, row, "window")]]
            pieces += [(index, np.arange(begin, min(begin + size, len(texts[index])))) for begin in begins]
        specials = sum(part.token >= 0 for part in self.parts)
        longest = self.room // 2
        lengths = np.array([specials + len(kept) + min(len(questions[index]), longest) for index, kept in pieces])
        input_ids = np.full((len(pieces), max(lengths)), self.pad_id, np.int64)
        token_type_ids, offsets = np.zeros_like(input_ids), np.full((*input_ids.shape, 2), -1, np.int64)
        for number, (index, kept) in enumerate(pieces):
            position = 0
            for token, type_id in self.parts:
                piece: Any = (token,)
                if token == FIRST:
                    piece = texts[index][kept]
                    span = offsets[number, position : position + len(kept)]
                    span[:, 0], span[:, 1] = starts[index][kept], ends[index][kept]
                elif token == SECOND:
                    piece = questions[index][:longest]
                end = position + len(piece)
                input_ids[number, position:end] = piece
                token_type_ids[number, position:end] = type_id
                position = end
        offsets[:, 0] = NO_ANSWER
        tensors = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(np.arange(input_ids.shape[1]) < lengths[:, None]),
            "offsets": torch.from_numpy(offsets),
            "window_rows": torch.tensor([index for index, _ in pieces]),
        }
        if any(part.type_id for part in self.parts):
            tensors["token_type_ids"] = torch.from_numpy(token_type_ids)
        return tensors
