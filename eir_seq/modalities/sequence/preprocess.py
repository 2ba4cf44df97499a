"""Text and other sequences of symbols: tokens, lengths, tensors, and the model that reads them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from eir_seq.config.outputs import OutputBase
from eir_seq.config.schema import DataConfig
from eir_seq.config.tokenizers import (
    PublishedTokenizerConfig,
    TokenizerBase,
    WordTokenizerConfig,
)
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json, read_text
from eir_seq.modalities.base import LENGTH, Collator, FittedModality, Modality, Purpose, RowSource, ragged
from eir_seq.modalities.base import STATE_FILE as STATE_FILE
from eir_seq.modalities.base import TOKENS as TOKENS
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.sequence.batches import IDS as IDS
from eir_seq.modalities.sequence.batches import PAIR_IDS, WORD_COUNT, WORDS, SequenceCollator
from eir_seq.modalities.sequence.cells import InputCells
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.tensors import TensorSource, load_sources, save_sources
from eir_seq.modalities.sequence.tensors.base import Content
from eir_seq.modalities.sequence.tokens import joined, tokenize
from eir_seq.modalities.sequence.truncation import Ids, cut, is_drawn, shares
from eir_seq.spool import content_hash, forget_pages
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from eir_seq.tokenizers.cache import TokenizerCache
from eir_seq.tokenizers.framing import FIRST

if TYPE_CHECKING:
    from eir_seq.rows import Rows

log = logging.getLogger(__name__)

UNKNOWN, SHORTENED = "unknown", "shortened"
ROWS_PER_BATCH = 1024
BATCHES_HELD = 64
"""Batches of a mapped table that stay resident while it is read."""
ROWS_MEASURED = 2_000
"""Training rows of which lengths are counted where the config gives `max_length`."""
UNKNOWN_SHARE = 0.2
"""From this share of unknown tokens on there is a warning."""
TENSORS_FILE, TOKENIZER_FOLDER = "tensors.json", "tokenizer"


@dataclass(frozen=True)
class SequenceModality(Modality):
    """A sequence input, as configured; raises `UserError` for tensors that its model does not take.

    `sentinels`: tokens for gaps that a tokenizer gets which is trained here. `cache`: where its vocabulary is kept.
    """

    name: str
    config: SequenceInputConfig
    sentinels: int = field(default=0, kw_only=True)
    cache: TokenizerCache | None = field(default=None, kw_only=True, compare=False)
    given: FittedSequence | None = field(default=None, kw_only=True)
    """The input of another run, whose tokenizer and further tensors it takes."""

    @classmethod
    def build(cls, name: str, config: SequenceInputConfig, purpose: Purpose) -> SequenceModality:
        """As its purpose wants it: a source that others write from, documents of a language model, or a text."""
        if purpose.conversation is not None:
            from eir_seq.modalities.sequence.conversations import ConversationModality

            return ConversationModality(name, config, spoken=purpose.conversation, cache=purpose.cache)
        if purpose.written is not None:
            from eir_seq.modalities.sequence.seq2seq import Seq2SeqModality

            return Seq2SeqModality(name, config, output=purpose.written, cache=purpose.cache)
        if purpose.layout is not None:
            from eir_seq.modalities.sequence.documents import DocumentsModality

            return DocumentsModality(name, config, purpose.layout, cache=purpose.cache)
        if purpose.asked is not None:
            from eir_seq.modalities.sequence.questions import QuestionModality

            return QuestionModality(name, config, asked=purpose.asked, sentinels=purpose.sentinels, cache=purpose.cache)
        return SequenceModality(name, config, sentinels=purpose.sentinels, cache=purpose.cache)

    @classmethod
    def load(cls, folder: Path) -> FittedSequence:
        """The fitted input of the kind that the folder's ``input.json`` names."""
        from eir_seq.modalities.sequence.conversations import FittedConversations
        from eir_seq.modalities.sequence.documents import FittedDocuments
        from eir_seq.modalities.sequence.questions import FittedQuestions
        from eir_seq.modalities.sequence.seq2seq import FittedSeq2Seq

        kinds = {
            "conversations": FittedConversations,
            "sequence": FittedSequence,
            "documents": FittedDocuments,
            "seq2seq": FittedSeq2Seq,
            "questions": FittedQuestions,
        }
        path = folder / STATE_FILE
        try:
            kind = json.loads(read_text(path))["type"]
            fitted: type[FittedSequence] = kinds[kind]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted input ({type(error).__name__}: {error})")) from None
        return fitted.load(folder)

    @cached_property
    def cells(self) -> InputCells:
        """How its columns are read and checked."""
        if not self.config.tensors.given():
            return InputCells(self.name, self.config)
        from eir_seq.modalities.sequence.tensors.declare import declare_sources

        return InputCells(self.name, self.config, declare_sources(self.name, self.config))

    def fit(self, train_rows: Rows, seed: int) -> FittedSequence:
        """Train or load the tokenizer, and settle `max_length`, on the training rows.

        Raises `UserError` if the texts have no token, or where `max_length` has no room for any.
        """
        del seed  # tokenizers are trained without randomness
        config = self.config
        tokenizer = self._tokenizer(train_rows)
        sources = self._sources(train_rows, tokenizer)
        fitted = FittedSequence(self.name, config, tokenizer, max_length=2**31 - 1)
        exact = not isinstance(config.max_length, int)
        step = 1 if exact else max(1, train_rows.num_rows // ROWS_MEASURED)
        lengths, unknown = fitted.measure(train_rows.select(range(0, train_rows.num_rows, step)))
        wanted = {"average": round(float(lengths.mean())), "max": int(lengths.max())}
        max_length = config.max_length if isinstance(config.max_length, int) else wanted[config.max_length]
        room = max_length - tokenizer.num_specials(pair=config.pair_column is not None)
        if room < (1 if config.pair_column is None else 2):
            message = (
                f"{max_length} leaves no room for text next to the {max_length - room} special tokens of the format"
            )
            raise UserError(Fault(f"inputs.{self.name}.max_length", message))
        statistics = {
            "rows": len(lengths),
            "min": int(lengths.min()),
            "mean": round(float(lengths.mean()), 1),
            "max": int(lengths.max()),
            "truncated": round(float((lengths > max_length).mean()), 4),
            "unknown": round(unknown, 4),
        }
        return FittedSequence(self.name, config, tokenizer, max_length, statistics, sources=sources)

    def _sources(self, train_rows: Rows, tokenizer: Tokenizer) -> dict[str, TensorSource]:
        if not self.cells.sources:
            return {}
        if self.given is not None and self.given.config.tensors == self.config.tensors:
            return dict(self.given.sources)
        from eir_seq.modalities.sequence.tensors.declare import adapt

        sources = adapt(self.cells.sources, self.config, tokenizer, f"inputs.{self.name}")
        contents = [self.cells.content(text) for text in train_rows[self.config.column]]
        return {kind: source.fit(_cells_of(source, train_rows), contents) for kind, source in sources.items()}

    def adopting(self, fitted: FittedSequence) -> SequenceModality:
        """The same input with the tokenizer of another run, and its tensors if they are declared alike."""
        return replace(self, given=fitted)

    def _tokenizer(self, train_rows: Rows) -> Tokenizer:
        if self.given is not None:
            return self.given.tokenizer
        config, model = self.config, self.config.model
        declared = config.tokenizer
        if declared is None:
            declared = PublishedTokenizerConfig() if model.pretrained_model else WordTokenizerConfig()
        choice = declared.published
        if choice is None:
            return self._train(declared, train_rows)
        place = f"inputs.{self.name}.tokenizer.path"
        if choice.path is None and not model.pretrained_model:
            raise UserError(Fault(place, "give the folder or Hub id of the tokenizer (the model is not pretrained)"))
        revision = choice.revision if choice.path is not None else model.revision
        try:
            return load_tokenizer(choice.path or model.model_type, revision=revision, **choice.options)
        except UserError as error:
            under = f"inputs.{self.name}.tokenizer.options"
            faults = (
                fault.under(under) if fault.place.split(".")[0] in choice.options else fault for fault in error.faults
            )
            raise UserError(*faults) from error

    def _train(self, choice: TokenizerBase, rows: Rows) -> Tokenizer:
        """The tokenizer that is learned from the training texts, or was in a run before."""

        def learn() -> Tokenizer:
            return train_tokenizer(choice, self._texts(rows), sentinels=self.sentinels)

        if self.cache is None or not choice.learns:
            return learn()
        config = self.config.model_dump(mode="json", exclude={"model", "max_length", "truncation", "modality_dropout"})
        texts = content_hash(rows.select_columns(self._text_columns).table)
        state = [type(self).__name__, config, choice.model_dump(mode="json"), self.sentinels, self._text_columns, texts]
        assert choice.IMPLEMENTATION is not None, "a published tokenizer is not trained"
        code = choice.IMPLEMENTATION.partition(":")[0]
        return self.cache.get(json.dumps(state, sort_keys=True), learn, code=code)

    @property
    def _text_columns(self) -> list[str]:
        """What a tokenizer is trained on."""
        return list(dict.fromkeys(name for name in (self.config.column, self.config.pair_column) if name is not None))

    def _texts(self, rows: Rows) -> Iterator[str]:
        config = self.config
        separator = " " if config.tokenizer is None else config.tokenizer.separator
        for batch in batches_of(rows, self._text_columns):
            contents = map(self.cells.content, batch[config.column])
            yield from (joined(content, separator)[: config.max_characters] for content in contents)
            if config.pair_column is not None:
                yield from (text[: config.max_characters] for text in batch[config.pair_column])


def batches_of(rows: Rows, columns: list[str]) -> Iterator[dict[str, list[Any]]]:
    """Some columns of all rows, batch by batch; what was read of a mapped table is released."""
    part = rows.select_columns(columns)
    for number, start in enumerate(range(0, rows.num_rows, ROWS_PER_BATCH)):
        yield part[start : start + ROWS_PER_BATCH]
        if number % BATCHES_HELD == 0:
            forget_pages()


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
    def cells(self) -> InputCells:
        """How its columns are read and checked."""
        return InputCells(self.name, self.config, self.sources)

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
        from eir_seq.modalities.sequence.corrupted import corrupting_collator

        return corrupting_collator(self, output)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the text, of its pair and of further tensors."""
        own = (self.config.column, self.config.pair_column, *(source.column for source in self.sources.values()))
        return tuple(dict.fromkeys(column for column in own if column is not None))

    @property
    def has_words(self) -> bool:
        """Whether the text column holds words, so that each token has one."""
        return self.config.is_split_into_words or self.cells.is_html

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
        contents = [self.cells.content(text) for text in rows[self.config.column]]
        spans = any(source.reads_offsets for source in self.sources.values())
        spaced = "xpaths" not in self.sources
        read = tokenize(self.tokenizer, contents, self.config.max_characters, offsets=spans, spaced=spaced)
        ids, cut_texts = read.ids, read.shortened
        pair_ids: list[Ids] = [np.empty(0, np.int32)] * len(ids)
        if self.config.pair_column is not None:
            pairs = [Content(text=text) for text in rows[self.config.pair_column]]
            pair = tokenize(self.tokenizer, pairs, self.config.max_characters)
            pair_ids, cut_texts = pair.ids, np.maximum(cut_texts, pair.shortened)
        specials = self.max_length - self._room
        tokens = np.array([len(a) + len(b) + specials for a, b in zip(ids, pair_ids, strict=True)], np.int32)
        unknown = [self._count_unknown(a) + self._count_unknown(b) for a, b in zip(ids, pair_ids, strict=True)]
        columns = {
            TOKENS: pa.array(tokens),
            LENGTH: pa.array(np.minimum(tokens, self.max_length) + self._others(rows)),
            SHORTENED: pa.array(cut_texts),
            UNKNOWN: pa.array(unknown, pa.int32()),
        }
        if read.words is not None:
            columns[WORDS] = ragged(read.words)
            columns[WORD_COUNT] = ragged([np.array([len(content.words or ())], np.int32) for content in contents])
        try:
            for source in self.sources.values():
                columns |= source.encode(_cells_of(source, rows), contents, read.offsets or ())
        except UserError as error:
            raise UserError(*(fault.under(f"inputs.{self.name}.tensors") for fault in error.faults)) from None
        if not (is_drawn(self.config.truncation) or self.has_words or self.sources):
            keep = [shares(len(a), len(b), self._room) for a, b in zip(ids, pair_ids, strict=True)]
            ids = [cut(a, count, self.config.truncation) for a, (count, _) in zip(ids, keep, strict=True)]
            pair_ids = [cut(b, count, self.config.truncation) for b, (_, count) in zip(pair_ids, keep, strict=True)]
        columns[IDS] = ragged(ids)
        if self.config.pair_column is not None:
            columns[PAIR_IDS] = ragged(pair_ids)
        return columns

    def _others(self, rows: Mapping[str, Sequence[str]]) -> Any:
        found = [
            source.others(_cells_of(source, rows)) for source in self.sources.values() if source.column is not None
        ]
        return sum(found, np.zeros(len(rows[self.config.column]), np.int32))

    def _count_unknown(self, ids: Ids) -> int:
        return 0 if self.tokenizer.unk_id is None else int(np.count_nonzero(ids == self.tokenizer.unk_id))

    def measure(self, rows: Rows) -> tuple[Any, float]:
        """Tokens of each row before truncation, and the share of unknown tokens."""
        lengths, unknown = [], 0
        specials = self.tokenizer.num_specials(pair=self.config.pair_column is not None)
        for start in range(0, rows.num_rows, ROWS_PER_BATCH):
            columns = self.encode(rows[start : start + ROWS_PER_BATCH])
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
        texts = [joined(self.cells.content(text), " ") for text in rows[self.config.column]]
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


def _cells_of(source: TensorSource, rows: Any) -> list[Any]:
    """The values in a source's column; None in each row where it has none."""
    return [parse_cell(text) for text in rows[source.column]] if source.column is not None else []
