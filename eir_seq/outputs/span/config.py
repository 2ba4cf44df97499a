"""What an experiment may say about an output that answers questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import LOSS, Metric
from eir_seq.config.outputs import Questions, TokenOutputBase
from eir_seq.config.strict import Positive
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class SpanOutputConfig(TokenOutputBase):
    """The part of a text that answers a question (extractive question answering), or that there is none."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.span.output:Span"
    REPORT: ClassVar[str] = "eir_seq.outputs.span.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        Metric("exact_match", "Exact match", "max", share_of_rows=True, aliases=("em", "accuracy")),
        Metric("f1", "F1", "max", aliases=("f1_score", "token_f1")),
    )
    AVERAGED: ClassVar[tuple[str, ...]] = ("f1",)
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("f1", "exact_match"),)
    TARGET: ClassVar[str] = "answer"

    type: Literal["span"] = "span"
    question: str = Field("question", description="column of the questions")
    context: str | None = Field(None, description="column of the texts; that of the input, which need not be repeated")
    answers: str = Field(
        "answers",
        description="column of the answers as SQuAD has them: text and answer_start (characters of the text), each a "
        "list, empty where there is no answer; with `answer_start` a column of texts",
    )
    answer_start: str | None = Field(
        None, description="column of the character at which the answer begins, where `answers` are texts"
    )
    stride: Positive | None = Field(
        None,
        description="tokens between overlapping windows, in which longer texts are read; by default only the first is",
    )
    max_answer_length: Positive = Field(30, description="tokens of the longest answer that is predicted")
    n_best: Positive = Field(5, description="answers that predictions list")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the last linear layer")

    @property
    def questions(self) -> Questions:
        """The question before the text."""
        return Questions(self.question, self.stride)

    def with_text(self, column: str) -> Self:
        """Answers are parts of that column."""
        return self if self.context is not None else self.model_copy(update={"context": column})

    def columns(self) -> dict[str, Column]:
        """The answers, and where they begin."""
        found = {self.answers: Column(ColumnType.JSON, "answers")}
        if self.answer_start is not None:
            found[self.answer_start] = Column(ColumnType.NUMBER, "answer_start")
        return found

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """An input that is not text or has another second one, columns that are one, windows that others would read."""
        place, read, source = f"outputs.{name}", sections.token_inputs[name], sections.text_of(name)
        if self.answer_start == self.answers:
            yield Fault(f"{place}.answer_start", f"column {self.answers!r} holds the answers already")
        if source is None:
            if read in sections.inputs and sections.inputs[read].HAS_TOKENS:
                yield Fault(f"{place}.input", f"{read!r} is not a text")
            return
        if source.is_split_into_words or source.tensors.given():
            key = "is_split_into_words" if source.is_split_into_words else "tensors"
            yield Fault(f"inputs.{read}.{key}", f"cannot be used: outputs.{name} finds its answers in a text alone")
        if source.pair_column not in (None, self.question):
            message = f"is {source.pair_column!r}; outputs.{name} has its question there ({self.question!r})"
            yield Fault(f"inputs.{read}.pair_column", message)
        if source.column == self.question:
            yield Fault(f"{place}.question", f"column {self.question!r} holds the text of inputs.{read}")
        if self.context not in (None, source.column):
            yield Fault(f"{place}.context", f"is {self.context!r}; inputs.{read} reads {source.column!r}")
        if source.truncation != "head":
            yield Fault(f"inputs.{read}.truncation", f"has no effect: outputs.{name} reads windows (stride)")
        for other in sections.outputs:
            of_tokens = sections.token_inputs.get(other)
            if other != name and of_tokens == read:
                message = f"the tokens of {read!r} follow the questions of outputs.{name}"
                yield Fault(f"outputs.{other}.input", message)
            elif other != name and of_tokens is None and self.stride is not None:
                yield Fault(f"{place}.stride", f"cannot be used: outputs.{other} reads one vector per text")
