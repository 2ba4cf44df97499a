"""A fitted sequence input: its tokenizer and length turn texts into tokens, and batches into tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.config.outputs import OutputBase
from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import LENGTH, STATE_FILE, TOKENS, Cells, Collator, FittedModality, RowSource, ragged
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.sequence.attribution import TokenAttribution, pieces_of_texts
from eir_seq.modalities.sequence.batches import IDS, PAIR_IDS, WORD_COUNT, WORDS, SequenceCollator
from eir_seq.modalities.sequence.cells import InputCells
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.corrupted import corrupting_collator
from eir_seq.modalities.sequence.tensors import TensorSource, load_sources, save_sources
from eir_seq.modalities.sequence.token_rows import TokenRows, joined_rows, shares_of_rows
from eir_seq.modalities.sequence.tokens import empty_token, joined, tokenize
from eir_seq.modalities.sequence.truncation import is_drawn
from eir_seq.spool import forget_pages
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.core import SURROGATE
from eir_seq.tokenizers.framing import FIRST

if TYPE_CHECKING:
    from eir_seq.rows import Rows

UNKNOWN, SHORTENED = "unknown", "shortened"
"""Encoded columns: unknown tokens of a row, and whether its text was cut to `max_characters`."""
ROWS_PER_BATCH = 1024
UNKNOWN_SHARE = 0.2
"""From this share of unknown tokens on there is a warning."""
TENSORS_FILE, TOKENIZER_FOLDER = "tensors.json", "tokenizer"


@dataclass
class FittedSequence(FittedModality):
    """A sequence input with its tokenizer and its length.

    `backbone` is set once an encoder was built from published weights: what is needed to build it again without them.
    `sources` fill further tensors, by the names of their entries in the config.
    """

    name: str
    config: SequenceInputConfig
    tokenizer: Tokenizer
    max_length: int
    statistics: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] | None = None
    sources: Mapping[str, TensorSource] = field(default_factory=dict)

    vocabulary_key, length_key = "tokenizer", "max_length"
    """Keys of the config that decide on the number of tokens, and on how many of them are read."""

    @cached_property
    def text_cells(self) -> InputCells:
        """How texts and what accompanies them are read and checked."""
        return InputCells(self.name, self.config, self.sources)

    @property
    def cells(self) -> Cells:
        """How its columns are checked."""
        return self.text_cells

    @property
    def frame(self) -> tuple[tuple[int, ...], int | None]:
        """Special tokens before a text that a language model continues, and the one that ends it."""
        tokens = [part.token for part in self.tokenizer.framing.single]
        place = tokens.index(FIRST)
        after = [*tokens[place + 1 :], self.tokenizer.eos_id]
        return tuple(tokens[:place]), after[0]

    def framed(self, ids: list[int]) -> list[int]:
        """The ids of a text with its special tokens."""
        return self.tokenizer.add_specials(ids)[0]

    def corrupted(self, output: OutputBase) -> Collator:
        """Corrupts texts as the output says; raises `UserError` for a tokenizer without the tokens that this needs."""
        return corrupting_collator(self.collator, self.name, self.tokenizer, output, has_words=self.has_words)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the text, of its pair and of further tensors."""
        own = (self.config.column, self.config.pair_column, *(source.column for source in self.sources.values()))
        return tuple(dict.fromkeys(column for column in own if column is not None))

    def in_memory(self, column: str, value: Any) -> Any:
        """As the entry of `tensors` that reads the column says."""
        source = next((source for source in self.sources.values() if source.column == column), None)
        return super().in_memory(column, value) if source is None else source.in_memory(value)

    @property
    def has_words(self) -> bool:
        """Whether the text column holds words, so that each token has one."""
        return self.config.is_split_into_words or self.text_cells.is_html

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
            words=self.has_words,
            sources=tuple(source.for_batches() for source in self.sources.values()),
        )

    @property
    def _room(self) -> int:
        return self.max_length - self.tokenizer.num_specials(pair=self.config.pair_column is not None)

    def same_state(self, other: FittedModality) -> bool:
        """Whether the tokenizers give the same ids, and further tensors are the same."""
        if not isinstance(other, FittedSequence) or save_sources(other.sources) != save_sources(self.sources):
            return False
        return other.tokenizer.fingerprint() == self.tokenizer.fingerprint()

    def fingerprint(self) -> str:
        """Hash of the tokenizer and of the options that `encode` looks at."""
        config = self.config
        options = (self.max_length, config.truncation, config.max_characters, config.column, config.pair_column)
        state = f"sequence {self.tokenizer.fingerprint()} {options}"
        if self.has_words or self.sources:
            state += f" words {self.has_words} {json.dumps(save_sources(self.sources), sort_keys=True)}"
        return hashlib.sha256(state.encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """Token ids of the texts, without special tokens, and what is to be known about each row.

        Texts are cut to `max_characters` first. Ids are truncated already unless their window is drawn later, or other
        columns speak of their places. `length` counts special tokens and is what remains after truncation, and what
        follows the text, such as entities; `tokens` is the text before truncation.
        """
        pair = self.config.pair_column
        if self._of_texts:
            return self._encode_texts(
                as_texts(rows[self.config.column]), None if pair is None else as_texts(rows[pair])
            )
        contents = [self.text_cells.content(text) for text in rows[self.config.column]]
        spans = any(source.reads_offsets for source in self.sources.values())
        spaced = "xpaths" not in self.sources
        read = tokenize(self.tokenizer, contents, self.config.max_characters, offsets=spans, spaced=spaced)
        text = joined_rows(read.ids)
        of_pair = None if pair is None else self._tokens_of(as_texts(rows[pair]))
        columns = self._facts(text, of_pair, read.shortened, self._others(rows))
        if read.words is not None:
            columns[WORDS] = ragged(read.words)
            columns[WORD_COUNT] = ragged([np.array([len(content.words or ())], np.int32) for content in contents])
        try:
            for source in self.sources.values():
                columns |= source.encode(cells_of(source, rows), contents, read.offsets or ())
        except UserError as error:
            raise UserError(*(fault.under(f"inputs.{self.name}.tensors") for fault in error.faults)) from None
        columns[IDS] = text.column
        if of_pair is not None:
            columns[PAIR_IDS] = of_pair[0].column
        return columns

    def encode_table(self, table: pa.Table) -> dict[str, pa.Array]:
        """The same of Arrow columns; texts stay there."""
        if not self._of_texts or type(self).encode is not FittedSequence.encode:
            return super().encode_table(table)
        names = (self.config.column, self.config.pair_column)
        text, pair = (None if name is None else _whole(table.column(name)) for name in names)
        return self._encode_texts(text, pair)

    @property
    def _of_texts(self) -> bool:
        """Whether a row is a text, or a pair of them, and nothing else."""
        return not (self.has_words or self.sources)

    def _encode_texts(self, texts: pa.StringArray, pairs: pa.StringArray | None) -> dict[str, pa.Array]:
        text, shortened = self._tokens_of(texts)
        pair = None if pairs is None else self._tokens_of(pairs)
        columns = self._facts(text, pair, shortened, np.int32(0))
        strategy = self.config.truncation
        if not is_drawn(strategy):
            none = np.zeros(len(text), np.int64)
            keep, keep_pair = shares_of_rows(text.sizes, none if pair is None else pair[0].sizes, self._room)
            text = text.cut(keep, strategy)
            pair = None if pair is None else (pair[0].cut(keep_pair, strategy), pair[1])
        columns[IDS] = text.column
        if pair is not None:
            columns[PAIR_IDS] = pair[0].column
        return columns

    def _tokens_of(self, texts: pa.StringArray) -> tuple[TokenRows, NDArray[np.int32]]:
        """Tokens of texts cut to `max_characters`, and which of these were cut."""
        limit = self.config.max_characters
        shortened = pc.greater(pc.utf8_length(texts), limit)
        if pc.any(shortened).as_py():
            texts = pc.utf8_slice_codeunits(texts, 0, limit)
        rows = TokenRows(*self.tokenizer.encode_column(texts))
        if self.tokenizer.num_specials() == 0:
            rows = rows.filled(empty_token(self.tokenizer))
        return rows, shortened.cast(pa.int32()).to_numpy()

    def _facts(
        self,
        text: TokenRows,
        pair: tuple[TokenRows, NDArray[np.int32]] | None,
        shortened: NDArray[np.int32],
        others: Any,
    ) -> dict[str, pa.Array]:
        """What is to be known about rows: lengths, unknown tokens, which of them were cut to `max_characters`."""
        unknown = text.count(self.tokenizer.unk_id)
        tokens = text.sizes.astype(np.int32) + np.int32(self.max_length - self._room)
        if pair is not None:
            unknown, tokens = unknown + pair[0].count(self.tokenizer.unk_id), tokens + pair[0].sizes.astype(np.int32)
            shortened = np.maximum(shortened, pair[1])
        return {
            TOKENS: pa.array(tokens),
            LENGTH: pa.array(np.minimum(tokens, self.max_length) + others),
            SHORTENED: pa.array(shortened),
            UNKNOWN: pa.array(unknown, pa.int32()),
        }

    def _others(self, rows: Mapping[str, Sequence[str]]) -> Any:
        found = [source.others(cells_of(source, rows)) for source in self.sources.values() if source.column is not None]
        return sum(found, np.zeros(len(rows[self.config.column]), np.int32))

    def _count_unknown(self, ids: Any) -> int:
        return 0 if self.tokenizer.unk_id is None else int(np.count_nonzero(np.asarray(ids) == self.tokenizer.unk_id))

    def measure(self, rows: Rows) -> tuple[Any, float]:
        """Tokens of each row before truncation, and the share of unknown tokens."""
        lengths, unknown = [], 0
        specials = self.tokenizer.num_specials(pair=self.config.pair_column is not None)
        for start in range(0, rows.num_rows, ROWS_PER_BATCH):
            columns = self.encode_table(rows.table.slice(start, ROWS_PER_BATCH))
            lengths.append(columns[TOKENS].to_numpy())
            unknown += int(columns[UNKNOWN].to_numpy().sum())
            forget_pages()
        tokens = np.concatenate(lengths)
        return tokens, unknown / max(1, int((tokens - specials).sum()))

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about texts that were cut before they were read, and about unknown tokens.

        Raises `UserError` if every token of the split is unknown.
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
            **({"tensors": {kind: source.describe() for kind, source in self.sources.items()}} if self.sources else {}),
        }

    def show(self, rows: Mapping[str, Sequence[str]]) -> list[str]:
        """What is in the texts of some rows, in readable form."""
        texts = [joined(self.text_cells.content(text), " ") for text in rows[self.config.column]]
        if self.config.pair_column is None:
            return texts
        return [f"{text} | {pair}" for text, pair in zip(texts, rows[self.config.pair_column], strict=True)]

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Any:
        """The backbone with its pooling; raises `UserError` if model and tokenizer do not fit together.

        Without `pretrained` a backbone that was loaded before is built with fresh weights. With `task` the backbone has
        the head of that task.
        """
        encoder: Any = super().build_encoder(data, pretrained=pretrained, task=task)
        if self.config.model.pretrained_model:
            self.backbone = encoder.describe_backbone()
        return encoder

    def attributable(self, encoder: Any) -> TokenAttribution | None:
        """Its tokens, where rows are texts that are read as a whole."""
        table = encoder.token_table
        if table is None or type(self).collator is not FittedSequence.collator:
            return None
        pieces = partial(pieces_of_texts, self.text_cells, self.tokenizer)
        specials = frozenset(self.tokenizer.all_special_ids)
        return TokenAttribution("input_ids", table, self.collator, self.tokenizer.vocab_size, specials, pieces)

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
        if self.sources:
            sources = json.dumps(save_sources(self.sources), ensure_ascii=False)
            (folder / TENSORS_FILE).write_text(sources + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedSequence:
        """What `save` wrote; raises `UserError` if files are missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            tensors = path.with_name(TENSORS_FILE)
            sources = read_json(tensors) if tensors.exists() else {}
            return cls(
                state["name"],
                SequenceInputConfig.model_validate(state["config"]),
                load_tokenizer(Path(folder) / TOKENIZER_FOLDER, local_files_only=True),
                state["max_length"],
                state["statistics"],
                state["backbone"],
                load_sources(sources),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(Fault(str(path), f"no fitted sequence input ({type(error).__name__}: {error})")) from None


def cells_of(source: TensorSource, rows: Any) -> list[Any]:
    """The values in a source's column; None in each row where it has none."""
    return [parse_cell(text) for text in rows[source.column]] if source.column is not None else []


def as_texts(values: Sequence[str]) -> pa.StringArray:
    """Texts as a column; lone surrogates, which no encoding can express, are U+FFFD."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([SURROGATE.sub("\ufffd", text) for text in values], pa.string())


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
