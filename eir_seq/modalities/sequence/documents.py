"""Documents for a language model: no text is cut or framed as a row; all tokens are in blocks of `max_length`.

Every token of a document is predicted exactly once from those before it, its end-of-text token too: each block
begins with the last token of the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.outputs import DocumentLayout
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import BYTES, LENGTH, STATE_FILE, TOKENS, RowSource
from eir_seq.modalities.sequence.batches import IDS
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import (
    ROWS_PER_BATCH,
    SHORTENED,
    TOKENIZER_FOLDER,
    UNKNOWN,
    FittedSequence,
    as_texts,
)
from eir_seq.modalities.sequence.preprocess import ROWS_MEASURED, SequenceModality, batches_of
from eir_seq.randomness import Draw
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.targets import without_end

if TYPE_CHECKING:
    from eir_seq.rows import Rows

log = logging.getLogger(__name__)

PIECE = 1 << 16
"""Characters of a long text that are tokenized at once; it is cut after a line."""


@dataclass(frozen=True)
class DocumentsModality(SequenceModality):
    """The sequence input of a language model, as configured."""

    layout: DocumentLayout = "packed"

    def fit(self, train_rows: Rows, seed: int) -> FittedDocuments:
        """Train or load the tokenizer on the training rows.

        Raises `UserError` for a tokenizer without a token that ends a text.
        """
        del seed  # tokenizers are trained without randomness
        tokenizer = self._tokenizer(train_rows)
        assert isinstance(self.config.max_length, int), "rules refuse others"
        fitted = FittedDocuments(self.name, self.config, tokenizer, self.config.max_length, layout=self.layout)
        if fitted.end is None:
            message = "has no token that ends a text (eos or sep), which a language model needs"
            raise UserError(Fault(f"inputs.{self.name}.tokenizer", message))
        step = max(1, train_rows.num_rows // ROWS_MEASURED)
        lengths, unknown = fitted.measure(train_rows.select(range(0, train_rows.num_rows, step)))
        fitted.warn_of_losses(train_rows[0][self.config.column])
        statistics = {
            "documents": train_rows.num_rows,
            "mean": round(float(lengths.mean()), 1),
            "max": int(lengths.max()),
            "unknown": round(unknown, 4),
        }
        return replace(fitted, statistics=statistics)

    def _texts(self, rows: Rows) -> Iterator[str]:
        for batch in batches_of(rows, [self.config.column]):
            for text in batch[self.config.column]:
                yield from pieces(text)


@dataclass
class FittedDocuments(FittedSequence):
    """The input of a language model with its tokenizer; `max_length` is the length of a block."""

    layout: DocumentLayout = "packed"

    @property
    def end(self) -> int | None:
        """The token after every document."""
        return next((i for i in (self.tokenizer.eos_id, self.tokenizer.sep_id) if i is not None), None)

    @property
    def begin(self) -> int:
        """The token before every document; where the tokenizer has none of its own, the one that ends a text."""
        begin = self.end if self.tokenizer.bos_id is None else self.tokenizer.bos_id
        assert begin is not None
        return begin

    @property
    def collator(self) -> BlockCollator:  # type: ignore[override]  # it reads other rows
        """Cuts blocks out of the documents."""
        pads = (self.tokenizer.pad_id, self.end)
        return BlockCollator(self.name, next(token for token in pads if token is not None))

    @property
    def frame(self) -> tuple[tuple[int, ...], int | None]:
        """The tokens that begin and end every document."""
        return (self.begin,), self.end

    def framed(self, ids: list[int]) -> list[int]:
        """The ids of a document with the tokens that begin and end it."""
        assert self.end is not None
        return [self.begin, *ids, self.end]

    def arrange(self, encoded: RowSource, ids: Sequence[str], split: str) -> tuple[RowSource, Sequence[str]]:
        """Blocks of tokens in place of documents."""
        del split
        blocks = self.blocks(encoded)
        return blocks, blocks.names(ids)

    def show_arranged(self, rows: Rows, encoded: RowSource, places: Sequence[int]) -> list[str]:
        """The texts of the blocks."""
        del rows
        blocks = encoded.sequences(IDS, places)
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in blocks]

    def blocks(self, documents: RowSource) -> TokenBlocks:
        """The rows that batches are made of."""
        assert self.end is not None
        return TokenBlocks(documents, self.begin, self.end, self.max_length, self.layout)

    def fingerprint(self) -> str:
        """Hash of all that `encode` depends on."""
        return hashlib.sha256(f"documents {self.tokenizer.fingerprint()} {self.config.column}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """All token ids of each text, without special tokens, and their number; `bytes` of the text in UTF-8."""
        texts = [pieces(text) for text in rows[self.config.column]]
        tokens_of, bounds = self.tokenizer.encode_column(as_texts([piece for text in texts for piece in text]))
        bounds = bounds[np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])]
        ids = [tokens_of[start:stop] for start, stop in pairwise(bounds.tolist())]
        if self.end is not None:  # blocks append it to each text
            ids = [without_end(row, self.end) for row in ids]
        tokens = pa.array([len(row) for row in ids], pa.int32())
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
        return {
            TOKENS: tokens,
            LENGTH: tokens,
            SHORTENED: pa.array(np.zeros(len(ids), np.int32)),
            UNKNOWN: pa.array([self._count_unknown(row) for row in ids], pa.int32()),
            BYTES: pa.array([sum(len(piece.encode(errors="replace")) for piece in text) for text in texts], pa.int32()),
            IDS: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(np.concatenate(ids), pa.int32())),
        }

    def measure(self, rows: Rows) -> tuple[Any, float]:
        """Tokens of each document, and the share of unknown tokens."""
        columns = [self.encode(rows[i : i + ROWS_PER_BATCH]) for i in range(0, rows.num_rows, ROWS_PER_BATCH)]
        tokens = np.concatenate([column[TOKENS].to_numpy() for column in columns])
        unknown = sum(int(column[UNKNOWN].to_numpy().sum()) for column in columns)
        return tokens, unknown / max(1, int(tokens.sum()))

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about unknown tokens; raises `UserError` if there are no others."""
        tokens = int(encoded.numbers(TOKENS).sum())
        if not tokens:
            raise UserError(Fault(f"inputs.{self.name}.tokenizer", f"makes no token of the {split} texts"))
        share = float(encoded.numbers(UNKNOWN).sum() / tokens)
        return [f"inputs.{self.name}: {share:.0%} of the tokens of the {split} texts are unknown"] * (share >= 0.01)

    def warn_of_losses(self, text: str) -> None:
        """Say it where tokens do not bring the text back, because generated texts and bits per byte suffer."""
        sample = pieces(text)[0][:2000]
        if self.tokenizer.decode(self.tokenizer.encode_batch([sample])[0].ids, skip_special_tokens=True) != sample:
            log.warning(
                "inputs.%s: this tokenizer does not bring texts back as they were (spaces, case or rare characters); "
                "bits_per_byte is that of the tokens all the same. bpe, byte and character lose nothing",
                self.name,
            )

    def describe(self) -> dict[str, Any]:
        """Tokenizer, length of a block, tokens per document."""
        described = {key: value for key, value in super().describe().items() if key not in ("truncation", "max_length")}
        return {**described, "documents": self.layout, "block": self.max_length}

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the tokenizer's files into `folder`."""
        super().save(folder)
        path = Path(folder) / STATE_FILE
        state = {**read_json(path), "type": "documents", "layout": self.layout}
        path.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedDocuments:
        """What `save` wrote; raises `UserError` if files are missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            config = SequenceInputConfig.model_validate(state["config"])
            tokenizer: Tokenizer = load_tokenizer(Path(folder) / TOKENIZER_FOLDER, local_files_only=True)
            fitted = cls(state["name"], config, tokenizer, state["max_length"], state["statistics"], state["backbone"])
            return replace(fitted, layout=state["layout"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(Fault(str(path), f"no fitted documents ({type(error).__name__}: {error})")) from None


@dataclass(frozen=True)
class TokenBlocks:
    """Encoded documents as rows of up to `length` tokens.

    The documents follow one another in a stream, ``begin`` before each and ``end`` after it (a single
    token between two of them where both are the same). ``packed`` blocks are cut from the stream; ``separate`` ones
    from each document. In training, packed blocks begin elsewhere in each epoch, and the last one continues at the
    stream's start: all are full.
    """

    documents: RowSource
    begin: int
    end: int
    length: int
    layout: DocumentLayout

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each document's `begin` is in the stream; the last entry is the stream's length."""
        extra = 1 if self.begin == self.end else 2
        return np.concatenate([[0], np.cumsum(self.documents.numbers(TOKENS).astype(np.int64) + extra)])

    @cached_property
    def ranges(self) -> NDArray[np.int64]:
        """First place of each row and the one after its last, (rows, 2); a place after the stream is its first."""
        shared = int(self.begin == self.end)  # the token that ends a document begins the next one
        if self.layout == "packed":
            parts = [(0, int(self.starts[-1]) + shared)]
        else:
            parts = [(int(a), int(b) + shared) for a, b in zip(self.starts, self.starts[1:], strict=False)]
        rows = [
            (start, min(start + self.length, stop))
            for begin, stop in parts
            for start in range(begin, max(stop - 1, begin + 1), self.length - 1)
        ]
        return np.array(rows, np.int64)

    features = (LENGTH, TOKENS, BYTES, IDS)

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:  # noqa: ARG002
        """Blocks have no arrays."""
        raise KeyError(feature)

    def numbers(self, column: str) -> NDArray[Any]:
        """`length` of each row, or the `bytes` of text that its tokens (all but the first) stand for.

        `tokens` are those of each document.
        """
        if column == TOKENS:
            return self.documents.numbers(TOKENS)
        first, stop = self.ranges.T
        if column == LENGTH:
            return np.asarray(stop - first, np.int32)
        assert column == BYTES, column
        counts = self.documents.numbers(TOKENS).astype(np.int64)
        sizes = self.documents.numbers(BYTES).astype(np.int64)
        before = np.concatenate([[0], np.cumsum(sizes)])

        def bytes_until(place: NDArray[np.int64]) -> NDArray[np.float64]:
            document = np.clip(np.searchsorted(self.starts, place, side="right") - 1, 0, len(counts) - 1)
            within = np.clip(place - self.starts[document] - 1, 0, counts[document])
            share = within / np.maximum(counts[document], 1)
            return np.asarray(before[document] + sizes[document] * share, np.float64)

        return bytes_until(stop) - bytes_until(first + 1)

    def sequences(self, column: str, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        """The ids of some rows."""
        assert column == IDS, column
        return [self._tokens(first, stop) for first, stop in self.ranges[list(rows)].tolist()]

    def shifted(self, rows: Sequence[int], shift: int) -> list[NDArray[np.int32]]:
        """The ids of packed rows, all as long as the first, with the stream turned by `shift` places."""
        width = int(self.ranges[0, 1])
        places = self.ranges[list(rows), 0] + shift
        return [self._tokens(first, first + width) for first in places.tolist()]

    def names(self, ids: Sequence[str]) -> list[str]:
        """What the rows are called: blocks by number, parts of documents by their id."""
        if self.layout == "packed":
            return [f"block-{number}" for number in range(1, len(self.ranges) + 1)]
        document = np.searchsorted(self.starts, self.ranges[:, 0], side="right") - 1
        parts = (self.ranges[:, 0] - self.starts[document]) // (self.length - 1)
        return [
            ids[number] if part == 0 else f"{ids[number]}#{part + 1}"
            for number, part in zip(document.tolist(), parts.tolist(), strict=True)
        ]

    def _tokens(self, first: int, stop: int) -> NDArray[np.int32]:
        total, found = int(self.starts[-1]), []
        while first < stop:
            first, stop = first % total, stop - first + first % total
            document = int(np.searchsorted(self.starts, first, side="right")) - 1
            start, end = int(self.starts[document]), int(self.starts[document + 1])
            ids = self.documents.sequences(IDS, [document])[0]
            after = [] if self.begin == self.end else [self.end]
            if first == start and stop >= end:
                piece = np.concatenate([[self.begin], ids, after])
            else:  # of a long document only what is needed
                low, high = max(first - start - 1, 0), max(min(stop, end) - start - 1, 0)
                begins, ends = [self.begin] * (first == start), after * (min(stop, end) == end)
                piece = np.concatenate([begins, ids[low : min(high, len(ids))], ends if low <= len(ids) else []])
            found.append(piece.astype(np.int32))
            first += len(piece)
        return np.concatenate(found)


@dataclass(frozen=True)
class BlockCollator:
    """Blocks to tensors: all of a batch are full but the last one of a split, and those at the end of a document."""

    name: str
    pad_id: int

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, ``(batch, length)``; the mask is True at real tokens."""
        assert isinstance(encoded, TokenBlocks)
        if draw.epoch is not None and encoded.layout == "packed":
            blocks = encoded.shifted(rows, draw.below(encoded.length - 1, self.name, "shift"))
        else:
            blocks = encoded.sequences(IDS, rows)
        lengths = np.array([len(block) for block in blocks])
        input_ids = np.full((len(rows), lengths.max()), self.pad_id, np.int64)
        mask = np.arange(lengths.max()) < lengths[:, None]
        input_ids[mask] = np.concatenate(blocks)
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}


def pieces(text: str) -> list[str]:
    """A long text in parts of about `PIECE` characters that end with a line, so that no tokenizer gets all at once."""
    found, start = [], 0
    while len(text) - start > 2 * PIECE:
        line = text.rfind("\n", start + 1, start + PIECE) + 1
        stop = line if line > start else start + PIECE
        found.append(text[start:stop])
        start = stop
    return [*found, text[start:]]
