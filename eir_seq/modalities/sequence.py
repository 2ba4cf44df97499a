"""Text and other sequences of symbols: tokens, lengths, tensors, and the model that reads them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eir_seq.config.schema import DataConfig, PublishedTokenizerConfig, SequenceInputConfig, WordTokenizerConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.base import LENGTH, Draw, RowSource
from eir_seq.modalities.truncation import Ids, Strategy, cut, is_drawn, shares, window
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from eir_seq.tokenizers.framing import FIRST, SECOND, Part

if TYPE_CHECKING:
    from datasets import Dataset

    from eir_seq.modalities.sequence_encoder import SequenceEncoder

log = logging.getLogger(__name__)

IDS, PAIR_IDS, TOKENS, UNKNOWN, SHORTENED = "ids", "pair_ids", "tokens", "unknown", "shortened"
ROWS_PER_BATCH = 1024
ROWS_MEASURED = 2_000
"""Training rows of which lengths are counted where the config gives `max_length`."""
UNKNOWN_SHARE = 0.2
"""From this share of unknown tokens on there is a warning."""
STATE_FILE, TOKENIZER_FOLDER = "input.json", "tokenizer"


@dataclass(frozen=True)
class SequenceModality:
    """A sequence input, as configured."""

    name: str
    config: SequenceInputConfig

    def fit(self, train_rows: Dataset, seed: int) -> FittedSequence:
        """Train or load the tokenizer, and settle `max_length`, on the training rows.

        Raises `UserError` where the texts have no token, or where `max_length` has no room for any.
        """
        del seed  # tokenizers are trained without randomness
        config = self.config
        tokenizer = self._tokenizer(train_rows)
        fitted = FittedSequence(self.name, config, tokenizer, max_length=2**31 - 1)
        exact = not isinstance(config.max_length, int)
        step = 1 if exact else max(1, train_rows.num_rows // ROWS_MEASURED)
        lengths, unknown = fitted.measure(train_rows.select(range(0, train_rows.num_rows, step)))
        wanted = {"average": round(float(lengths.mean())), "max": int(lengths.max())}
        max_length = config.max_length if isinstance(config.max_length, int) else wanted[config.max_length]
        room = max_length - tokenizer.num_specials(pair=config.pair_column is not None)
        if room < (1 if config.pair_column is None else 2):
            message = f"{max_length} leaves no room beside the {max_length - room} special tokens of the format"
            raise UserError(Fault(f"inputs.{self.name}.max_length", message))
        statistics = {
            "rows": len(lengths),
            "min": int(lengths.min()),
            "mean": round(float(lengths.mean()), 1),
            "max": int(lengths.max()),
            "truncated": round(float((lengths > max_length).mean()), 4),
            "unknown": round(unknown, 4),
        }
        return FittedSequence(self.name, config, tokenizer, max_length, statistics)

    def _tokenizer(self, train_rows: Dataset) -> Tokenizer:
        config, model = self.config, self.config.model
        choice = config.tokenizer
        if choice is None:
            choice = PublishedTokenizerConfig() if model.pretrained_model else WordTokenizerConfig()
        if not isinstance(choice, PublishedTokenizerConfig):
            return train_tokenizer(choice, self._texts(train_rows))
        place = f"inputs.{self.name}.tokenizer.path"
        if choice.path is None and not model.pretrained_model:
            raise UserError(Fault(place, "give the folder or Hub id of the tokenizer (the model is not pretrained)"))
        revision = choice.revision if choice.path is not None else model.revision
        return load_tokenizer(choice.path or model.model_type, revision=revision)

    def _texts(self, rows: Dataset) -> Iterator[str]:
        columns = [self.config.column] + ([self.config.pair_column] if self.config.pair_column else [])
        for start in range(0, rows.num_rows, ROWS_PER_BATCH):
            batch = rows[start : start + ROWS_PER_BATCH]
            for column in columns:
                yield from (text[: self.config.max_characters] for text in batch[column])


@dataclass
class FittedSequence:
    """A sequence input with its tokenizer and its length.

    `backbone` is set once an encoder was built from published weights: what is needed to build it again without them.
    """

    name: str
    config: SequenceInputConfig
    tokenizer: Tokenizer
    max_length: int
    statistics: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the text and of its pair."""
        return (self.config.column,) + ((self.config.pair_column,) if self.config.pair_column else ())

    @property
    def collator(self) -> SequenceCollator:
        """Frames, truncates and pads the ids of a batch."""
        framing, pair = self.tokenizer.framing, self.config.pair_column is not None
        pads = (self.tokenizer.pad_id, self.tokenizer.eos_id, 0)
        return SequenceCollator(
            name=self.name,
            parts=framing.pair if pair else framing.single,
            room=self._room,
            strategy=self.config.truncation,
            pad_id=next(token for token in pads if token is not None),
        )

    @property
    def _room(self) -> int:
        return self.max_length - self.tokenizer.num_specials(pair=self.config.pair_column is not None)

    def fingerprint(self) -> str:
        """Hash of the tokenizer and of the options that `encode` looks at."""
        config = self.config
        options = (self.max_length, config.truncation, config.max_characters, config.column, config.pair_column)
        return hashlib.sha256(f"sequence {self.tokenizer.fingerprint()} {options}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """Token ids of the texts, without special tokens, and what is to be known about each row.

        Texts are cut to `max_characters` first. Ids are truncated already unless their window is drawn later.
        `length` counts special tokens and is what remains after truncation, `tokens` what there was before it.
        """
        ids, cut_texts = self._ids(rows[self.config.column])
        pair_ids: list[Ids] = [np.empty(0, np.int32)] * len(ids)
        if self.config.pair_column is not None:
            pair_ids, cut_pairs = self._ids(rows[self.config.pair_column])
            cut_texts = np.maximum(cut_texts, cut_pairs)
        specials = self.max_length - self._room
        tokens = np.array([len(a) + len(b) + specials for a, b in zip(ids, pair_ids, strict=True)], np.int32)
        unknown = [self._count_unknown(a) + self._count_unknown(b) for a, b in zip(ids, pair_ids, strict=True)]
        columns = {
            TOKENS: pa.array(tokens),
            LENGTH: pa.array(np.minimum(tokens, self.max_length)),
            SHORTENED: pa.array(cut_texts),
            UNKNOWN: pa.array(unknown, pa.int32()),
        }
        if not is_drawn(self.config.truncation):
            keep = [shares(len(a), len(b), self._room) for a, b in zip(ids, pair_ids, strict=True)]
            ids = [cut(a, count, self.config.truncation) for a, (count, _) in zip(ids, keep, strict=True)]
            pair_ids = [cut(b, count, self.config.truncation) for b, (_, count) in zip(pair_ids, keep, strict=True)]
        columns[IDS] = _list_array(ids)
        if self.config.pair_column is not None:
            columns[PAIR_IDS] = _list_array(pair_ids)
        return columns

    def _ids(self, texts: Sequence[str]) -> tuple[list[Ids], Any]:
        limit = self.config.max_characters
        encodings = self.tokenizer.encode_batch([text[:limit] for text in texts])
        ids = [np.asarray(encoding.ids, np.int32) for encoding in encodings]
        if self.tokenizer.num_specials() == 0:  # a row without any token would have nothing to attend to
            empty = self.tokenizer.unk_id if self.tokenizer.unk_id is not None else (self.tokenizer.eos_id or 0)
            ids = [row if len(row) else np.array([empty], np.int32) for row in ids]
        return ids, np.array([len(text) > limit for text in texts], np.int32)

    def _count_unknown(self, ids: Ids) -> int:
        return 0 if self.tokenizer.unk_id is None else int(np.count_nonzero(ids == self.tokenizer.unk_id))

    def measure(self, rows: Dataset) -> tuple[Any, float]:
        """Tokens of each row before truncation, and the share of unknown tokens."""
        lengths, unknown = [], 0
        specials = self.tokenizer.num_specials(pair=self.config.pair_column is not None)
        for start in range(0, rows.num_rows, ROWS_PER_BATCH):
            columns = self.encode(rows[start : start + ROWS_PER_BATCH])
            lengths.append(columns[TOKENS].to_numpy())
            unknown += int(columns[UNKNOWN].to_numpy().sum())
        tokens = np.concatenate(lengths)
        return tokens, unknown / max(1, int((tokens - specials).sum()))

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about texts that were cut before they were read, and about unknown tokens.

        Raises `UserError` where every token of the split is unknown.
        """
        warnings = []
        tokens, unknown = encoded.numbers(TOKENS), encoded.numbers(UNKNOWN)
        specials = self.max_length - self._room
        share = float(unknown.sum() / max(1, (tokens - specials).sum()))
        if share == 1:
            message = f"every token of the {split} rows is unknown to the tokenizer; is it one for such texts?"
            raise UserError(Fault(f"inputs.{self.name}.tokenizer", message))
        if share >= UNKNOWN_SHARE:
            warnings.append(f"inputs.{self.name}: {share:.0%} of the tokens of the {split} rows are unknown")
        cut_texts = int(encoded.numbers(SHORTENED).sum())
        if cut_texts:
            limit = self.config.max_characters
            warnings.append(
                f"inputs.{self.name}: {cut_texts} texts of the {split} rows were cut to {limit} characters "
                "(max_characters)"
            )
        return warnings

    def describe(self) -> dict[str, Any]:
        """Tokenizer, length, and tokens per text of the training rows before truncation, special tokens included."""
        choice = self.config.tokenizer
        default = "published" if self.config.model.pretrained_model else "word"
        return {
            "type": "sequence",
            "column": self.config.column,
            "tokenizer": default if choice is None else choice.type,
            "vocab_size": self.tokenizer.vocab_size,
            "max_length": self.max_length,
            "truncation": self.config.truncation,
            "tokens": dict(self.statistics),
        }

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> SequenceEncoder:
        """The backbone with its pooling; raises `UserError` where model and tokenizer do not fit together.

        Without `pretrained` a backbone that was loaded before is built with fresh weights. With `task` the backbone has
        the head of that task.
        """
        from eir_seq.modalities.sequence_encoder import build_sequence_encoder

        encoder = build_sequence_encoder(self, data, pretrained=pretrained, task=task)
        if self.config.model.pretrained_model:
            self.backbone = encoder.describe_backbone()
        return encoder

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the tokenizer's files into `folder`, which is made if absent."""
        folder = Path(folder)
        self.tokenizer.save(folder / TOKENIZER_FOLDER)
        state = {
            "type": "sequence",
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "max_length": self.max_length,
            "statistics": dict(self.statistics),
            "backbone": None if self.backbone is None else dict(self.backbone),
        }
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedSequence:
        """What `save` wrote; raises `UserError` where files are missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                state["name"],
                SequenceInputConfig.model_validate(state["config"]),
                load_tokenizer(Path(folder) / TOKENIZER_FOLDER, local_files_only=True),
                state["max_length"],
                state["statistics"],
                state["backbone"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(Fault(str(path), f"no fitted sequence input ({type(error).__name__}: {error})")) from None


@dataclass(frozen=True)
class SequenceCollator:
    """Ids of some rows to padded tensors.

    `parts` are the special tokens and the places of the texts, `room` the tokens that are left for texts.
    """

    name: str
    parts: tuple[Part, ...]
    room: int
    strategy: Strategy
    pad_id: int

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, and `token_type_ids` where the format has types; ``(batch, length)``.

        Rows are padded on the right to the longest of the batch. The mask is True at tokens of the text.
        """
        first = encoded.sequences(IDS, rows)
        pair = any(part.token == SECOND for part in self.parts)
        second = encoded.sequences(PAIR_IDS, rows) if pair else [np.empty(0, np.int32)] * len(rows)
        pieces = [self._kept(row, a, b, draw) for row, a, b in zip(rows, first, second, strict=True)]
        specials = sum(part.token >= 0 for part in self.parts)
        lengths = [len(a) + len(b) + specials for a, b in pieces]
        input_ids = np.full((len(rows), max(lengths)), self.pad_id, np.int64)
        token_type_ids = np.zeros_like(input_ids)
        for index, texts in enumerate(pieces):
            position = 0
            for token, type_id in self.parts:
                piece: Any = texts[0] if token == FIRST else texts[1] if token == SECOND else (token,)
                end = position + len(piece)
                input_ids[index, position:end] = piece
                token_type_ids[index, position:end] = type_id
                position = end
        mask = np.arange(input_ids.shape[1]) < np.asarray(lengths)[:, None]
        tensors = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}
        if any(part.type_id for part in self.parts):
            tensors["token_type_ids"] = torch.from_numpy(token_type_ids)
        return tensors

    def _kept(self, row: int, ids: Ids, pair_ids: Ids, draw: Draw) -> tuple[Ids, Ids]:
        """The tokens that stay of a text and its pair."""
        keep, pair_keep = shares(len(ids), len(pair_ids), self.room)
        return self._part(row, ids, keep, FIRST, draw), self._part(row, pair_ids, pair_keep, SECOND, draw)

    def _part(self, row: int, ids: Ids, keep: int, which: int, draw: Draw) -> Ids:
        if len(ids) <= keep:
            return ids
        if self.strategy == "uniform" or (self.strategy == "random" and draw.epoch is not None):
            return window(ids, keep, draw.below(len(ids) - keep + 1, self.name, row, which))
        return cut(ids, keep, self.strategy)


def _list_array(rows: Sequence[Ids]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    values = np.concatenate(rows) if rows else np.empty(0, np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int32()))
