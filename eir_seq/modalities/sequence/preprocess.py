"""Text and other sequences of symbols: what is learned from the training rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eir_seq.config.tokenizers import PublishedTokenizerConfig, TokenizerBase, WordTokenizerConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.base import Cells, Modality, Purpose
from eir_seq.modalities.sequence.cells import InputCells
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import ROWS_PER_BATCH, FittedSequence, cells_of
from eir_seq.modalities.sequence.tensors import TensorSource
from eir_seq.modalities.sequence.tensors.declare import adapt, declare_sources
from eir_seq.modalities.sequence.tokens import joined
from eir_seq.spool import content_hash, forget_pages
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from eir_seq.tokenizers.cache import TokenizerCache

if TYPE_CHECKING:
    from eir_seq.rows import Rows

BATCHES_HELD = 64
"""Batches of a mapped table that stay resident while it is read."""
ROWS_MEASURED = 2_000
"""Training rows of which lengths are counted where the config gives `max_length`."""


@dataclass(frozen=True)
class SequenceModality(Modality):
    """A sequence input, as configured; raises `UserError` for tensors that its model does not take.

    `sentinels`: tokens for gaps that a tokenizer gets which is trained here. `cache`: where its vocabulary is kept.
    """

    FITTED = FittedSequence

    name: str
    config: SequenceInputConfig
    sentinels: int = field(default=0, kw_only=True)
    cache: TokenizerCache | None = field(default=None, kw_only=True, compare=False)
    given: FittedSequence | None = field(default=None, kw_only=True)
    """The input of another run, whose tokenizer and further tensors it takes."""

    @classmethod
    def build(cls, name: str, config: SequenceInputConfig, purpose: Purpose) -> SequenceModality:
        """A text that is read as a whole."""
        return SequenceModality(name, config, sentinels=purpose.sentinels, cache=purpose.cache)

    @cached_property
    def text_cells(self) -> InputCells:
        """How its columns are read and checked."""
        if not self.config.tensors.given():
            return InputCells(self.name, self.config)
        return InputCells(self.name, self.config, declare_sources(self.name, self.config))

    @property
    def cells(self) -> Cells:
        """How its columns are checked."""
        return self.text_cells

    def fit(self, train_rows: Rows, seed: int) -> FittedSequence:
        """Train or load the tokenizer, and resolve `max_length`, on the training rows.

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
        if not self.text_cells.sources:
            return {}
        if self.given is not None and self.given.config.tensors == self.config.tensors:
            return dict(self.given.sources)
        sources = adapt(self.text_cells.sources, self.config, tokenizer, f"inputs.{self.name}")
        contents = [self.text_cells.content(text) for text in train_rows[self.config.column]]
        return {kind: source.fit(cells_of(source, train_rows), contents) for kind, source in sources.items()}

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
        config = self.config.model_dump(
            mode="json", exclude={"model", "max_length", "truncation", "modality_dropout", "interpretation"}
        )
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
            contents = map(self.text_cells.content, batch[config.column])
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
