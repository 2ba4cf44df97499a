"""What outputs share that answer in conversations: the columns of these, and how answers are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.outputs import GeneratingOutputBase
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

ANSWERS: dict[str, Any] = {"max_new_tokens": 256}
"""How answers are written by default: the most probable token each time."""


class ConversationOutputBase(GeneratingOutputBase):
    """What every output has that answers in conversations."""

    prompt: str | None = Field(None, description="column of what the user says")
    messages: str | None = Field(
        None,
        description="in place of prompt, a column of conversations: lists of {role, content}, in CSV as JSON; roles "
        "are system, user, assistant and tool",
    )
    system: str | None = Field(None, description="column of a system message before the conversation; may be empty")
    chat_template: str | None = Field(
        None,
        description="how conversations are written: a name among the tokenizer's templates, a .jinja file or the "
        "template itself; by default the tokenizer's own, or where it has none <|user|>, <|assistant|> and an end",
    )
    generate_rows: int = Field(
        200, ge=0, description="evenly spaced validation rows that are answered at each evaluation; 0: none"
    )

    def conversation_columns(self) -> dict[str, Column]:
        """The columns of what is answered."""
        found = {}
        if self.prompt is not None:
            found[self.prompt] = Column(ColumnType.TEXT, "prompt", is_input=True)
        if self.messages is not None:
            found[self.messages] = Column(ColumnType.JSON, "messages", is_input=True)
        if self.system is not None:
            found[self.system] = Column(ColumnType.CATEGORY, "system", may_miss=True, is_input=True)
        return found

    def conversation_faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Neither prompt nor messages, both, a column twice, other outputs, no language-model head."""
        from eir_seq.outputs.language.rules import missing_head_faults, standalone_faults

        place = f"outputs.{name}"
        if self.prompt is not None and self.messages is not None:
            yield Fault(f"{place}.messages", "cannot be combined with prompt; keep one of them")
        keys = [key for key in ("prompt", "messages", "system", "response", "chosen", "rejected") if hasattr(self, key)]
        columns: dict[str, str] = {}
        for key in keys:
            column = getattr(self, key)
            if column is not None and columns.setdefault(column, key) != key:
                yield Fault(f"{place}.{key}", f"column {column!r} is read as {columns[column]} already")
        yield from standalone_faults(sections, name, self.type)
        here, source = sections.token_inputs[name], sections.text_of(name)
        if source is not None:
            yield from missing_head_faults(source.model, f"inputs.{here}.model.model_type", "causal-lm")
        if self.generate_rows == 0 and sections.trainer is not None:
            monitor = sections.trainer.monitor
            if monitor.metric in self.metrics() and monitor.metric in WRITTEN:
                message = f"{monitor.metric!r} is measured on written answers; {place}.generate_rows is 0"
                yield Fault("trainer.monitor.metric", message)


WRITTEN = ("exact_match", "rougeL")
"""Metrics of written answers."""
