"""What an experiment may say about a sequence input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.kinds import TokenizerConfig
from eir_seq.config.strict import Positive, ignored
from eir_seq.config.template import Template
from eir_seq.config.tensors import TensorsConfig
from eir_seq.config.tokenizers import TokenizerBase
from eir_seq.errors import Fault, UserError
from eir_seq.hub import unlocatable

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


def _without_column(schema: dict[str, Any]) -> None:
    """Editors do not ask for `column` where there may be a `text`, nor for `model` where there may be a `share`."""
    schema["required"] = [key for key in schema.get("required", []) if key not in ("column", "model")]


class SequenceInputConfig(EncoderInputBase):
    """Text or any other sequence of symbols."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.sequence.factory:SequenceFactory"
    HAS_TOKENS: ClassVar[bool] = True
    NAMING: ClassVar[tuple[str, ...]] = ("column", "text", "pair_column")

    model_config = ConfigDict(serialize_by_alias=True, json_schema_extra=_without_column)

    type: Literal["sequence"] = "sequence"
    column: str = Field(description="column that holds the text")
    written: str | None = Field(
        None,
        alias="text",
        description='in place of column, a text of several columns, such as "{title}: {body}"; missing parts are '
        "empty, and {{ is a brace",
    )
    pair_column: str | None = Field(None, description="column of a second text, appended to the first")
    is_split_into_words: bool = Field(
        False, description="the column holds lists of words (in CSV a JSON list), not texts"
    )
    tensors: TensorsConfig = Field(
        TensorsConfig(), description="what the architecture reads in addition to tokens: boxes, entities, languages ..."
    )
    max_length: Annotated[int, Field(ge=3)] | Literal["average", "max"] = Field(
        512, description="tokens per text, special tokens included; average and max are those of the training rows"
    )
    truncation: Literal["head", "tail", "middle-out", "random", "uniform"] = Field(
        "head",
        description="which part of longer texts to keep; random: a new window in each training epoch and the head in "
        "evaluation; uniform: random windows in evaluation too",
    )
    max_characters: Positive = Field(200_000, description="longer texts are truncated before tokenization")
    tokenizer: TokenizerConfig | None = Field(
        None, description="by default words; with a pretrained model the published one"
    )
    model: SequenceModelConfig = Field(description="the backbone")

    @model_validator(mode="before")
    @classmethod
    def _column_of_template(cls, given: Any) -> Any:
        """The text of several columns is its own column, which has the template's name."""
        if isinstance(given, Mapping) and isinstance(given.get("text"), str) and "column" not in given:
            return {**given, "column": given["text"]}
        return given

    @field_validator("written")
    @classmethod
    def _is_template(cls, text: str | None) -> str | None:
        if text is not None:
            Template.parse(text)
        return text

    @property
    def template(self) -> Template | None:
        """How the text is made of several columns."""
        return None if self.written is None else Template.parse(self.written)

    def columns(self) -> dict[str, Column]:
        """Those of the text, of its pair and of further tensors."""
        if not self.column:  # the output that continues its conversations names their columns
            return {}
        found = {self.column: Column(ColumnType.LIST if self.is_split_into_words else ColumnType.TEXT)}
        if self.template is not None:
            found = {self.column: Column(ColumnType.TEXT, "text", template=self.template)}
        if self.pair_column:
            found.setdefault(self.pair_column, Column(ColumnType.TEXT, "pair_column"))
        for kind, entry in self.tensors.given().items():
            if (column := getattr(entry, "column", None)) is not None:
                found.setdefault(column, Column(ColumnType.JSON, f"tensors.{kind}.column"))
        return found

    def with_question(self, column: str) -> Self:
        """The question is its second text."""
        return self if self.pair_column else self.model_copy(update={"pair_column": column})

    @property
    def text(self) -> Self:
        """The input itself."""
        return self

    @property
    def fits_blocks(self) -> bool:
        """Tensors alongside a text belong to it and would not fit a block."""
        return not self.tensors.given()

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the backbone, of further tensors, and of the tokenizer."""
        yield from super().faults(name, sections)
        place = f"inputs.{name}"
        yield from self._column_faults(name, sections)
        yield from self._template_faults(place, sections)
        yield from _tensors(place, self)
        yield from _tokenizer(f"{place}.tokenizer", self.tokenizer, self.model.pretrained_model)

    def _column_faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        talks = [
            output
            for output, read in sections.token_inputs.items()
            if read == name and sections.outputs[output].conversation is not None
        ]
        place = f"inputs.{name}"
        if not talks:
            if not self.column:
                yield Fault(f"{place}.column", "is missing; name the column that holds the text")
            return
        reason = f"must be left out: outputs.{talks[0]} names the columns of its conversations"
        if self.column:
            yield Fault(f"{place}.{'text' if self.written is not None else 'column'}", reason)
        if self.pair_column is not None:
            yield Fault(f"{place}.pair_column", reason)
        unread = "truncation is_split_into_words"
        yield from ignored(place, self, unread, "with conversations, of which the oldest turns are left out")
        yield from (Fault(f"{place}.tensors.{kind}", reason) for kind in self.tensors.given())

    def _template_faults(self, place: str, sections: Sections) -> Iterator[Fault]:
        if self.template is None:
            return
        if self.column != self.written:
            yield Fault(f"{place}.text", "cannot be combined with column; keep one of them")
        if self.is_split_into_words:
            yield Fault(f"{place}.is_split_into_words", "must be false: text joins texts, not lists of words")
        targets = {column: name for name, output in sections.outputs.items() for column in output.columns()}
        for column in self.template.columns:
            if column in targets:
                yield Fault(f"{place}.text", f"column {column!r} is the target of outputs.{targets[column]}")

    def preflight(self, place: str) -> Iterator[Fault]:
        """What backbone and tokenizer need."""
        yield from super().preflight(place)
        yield from tokenizer_preflight(place, self.model, self.tokenizer)

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str]:
        """See `InputBase.tokens_of`."""
        return raw.get("max_length", 512), "max_length"


def tokenizer_preflight(place: str, model: SequenceModelConfig, tokenizer: TokenizerBase | None) -> Iterator[Fault]:
    """Folders and files of a tokenizer, by default that of its pretrained model, that cannot be used.

    Args:
        place: the config path of what has both.
        model: its model.
        tokenizer: its tokenizer, where one is named.
    """
    if tokenizer is not None:
        yield from tokenizer.preflight(f"{place}.tokenizer")
        if tokenizer.published is None:
            return
    published = None if tokenizer is None else tokenizer.published
    named, options = (None, {}) if published is None else (published.path, published.options)
    if named is not None and (problem := unlocatable(named)) is not None:
        yield Fault(f"{place}.tokenizer.path", problem)
    where = Path(named).expanduser() if named is not None else model.folder
    if where is None or not where.is_dir():
        return
    from eir_seq.tokenizers.published import check_folder

    try:
        check_folder(where, options)
    except UserError as error:
        key = f"{place}.tokenizer.path" if named is not None else f"{place}.model.model_type"
        yield from (fault.under(key) for fault in error.faults)


def _tokenizer(place: str, tokenizer: TokenizerBase | None, pretrained: bool) -> Iterator[Fault]:
    if tokenizer is None:
        return
    if (published := tokenizer.published) is not None:
        if published.path is None and not pretrained:
            yield Fault(f"{place}.path", "is missing; without a pretrained model it has no default")
        if published.path is None:
            reason = "without tokenizer.path; model.revision names that of the model"
            yield from ignored(place, published, "revision", reason)
    elif pretrained:
        message = f"{tokenizer.type!r} gives other ids than the pretrained model was trained with; leave tokenizer out"
        yield Fault(place, message)
    yield from tokenizer.faults(place)


def _tensors(place: str, config: SequenceInputConfig) -> Iterator[Fault]:
    tensors, words = config.tensors, config.is_split_into_words
    for kind, entry in tensors.given().items():
        column = getattr(entry, "column", None)
        if column is None:
            continue
        here = f"{place}.tensors.{kind}.column"
        if column in (config.column, config.pair_column):
            yield Fault(here, f"column {column!r} holds the text already")
    key = f"{place}.is_split_into_words"
    xpaths = tensors.xpaths
    for kind, needs_words in (("bbox", tensors.bbox), ("xpaths", xpaths is not None and xpaths.column)):
        if needs_words and not words:
            yield Fault(key, f"must be true: tensors.{kind} has a value for each word")
    if words and xpaths is not None and xpaths.html:
        yield Fault(key, "must be false: the column holds HTML (tensors.xpaths.html)")
    if words and tensors.entities is not None:
        yield Fault(key, "must be false: tensors.entities are characters of a text")
