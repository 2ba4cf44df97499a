"""How columns of conversations are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.config.outputs import Conversation
from eir_seq.modalities.cells import parse_cell
from eir_seq.tokenizers.conversation import ASSISTANT, message_fault


@dataclass(frozen=True)
class ConversationCells:
    """How rows of conversations are checked beyond the types of their columns.

    `answered`: whether conversations have to end with an answer.
    """

    spoken: Conversation
    answered: bool

    @property
    def column(self) -> str:
        """The column of what is answered."""
        return self.spoken.source

    @property
    def places(self) -> dict[str, str]:
        """The column of messages."""
        return {} if self.spoken.messages is None else {self.spoken.messages: f"outputs.{self.spoken.output}.messages"}

    @property
    def checks_rows(self) -> bool:
        """Where columns hold messages."""
        return self.spoken.messages is not None

    @property
    def file_columns(self) -> frozenset[str]:
        """None: no cell names a file."""
        return frozenset()

    def read(self, column: str, text: str | None, folder: Path) -> Any:
        """The messages of a cell; raises `ValueError` with the reason where there are none."""
        del column, folder
        if not text:
            raise ValueError("is missing" if text is None else "is empty")
        return parse_cell(text)

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """Nothing: texts have no shape."""
        del cells

    def problems(self, text: str, values: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with the messages."""
        del text
        assert self.spoken.messages is not None
        value = values[self.spoken.messages]
        fault = message_fault(value, answered=self.answered and not self.spoken.answers)
        if fault is None and self.spoken.answers and value[-1]["role"] == ASSISTANT:
            fault = f"ends with the role {ASSISTANT!r}; what it says next is in {', '.join(self.spoken.answers)}"
        if fault is not None:
            yield f"{self.spoken.messages!r} {fault}"
