"""Conversations as rows have them, in columns of prompts and answers or of messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eir_seq.config.outputs import Conversation
from eir_seq.tokenizers.conversation import ASSISTANT, SYSTEM, USER

Messages = list[dict[str, Any]]


def prompts_of(spoken: Conversation, rows: Mapping[str, Sequence[Any]]) -> list[Messages]:
    """What is answered in each row: its messages but for the last answer."""
    found = []
    systems = None if spoken.system is None else rows[spoken.system]
    for number, cell in enumerate(rows[spoken.source]):
        messages = [{"role": USER, "content": cell}] if spoken.messages is None else _cell(cell)
        if not spoken.answers and messages[-1]["role"] == ASSISTANT:
            messages = messages[:-1]
        if systems is not None and systems[number]:
            messages = [{"role": SYSTEM, "content": systems[number]}, *messages]
        found.append(messages)
    return found


def answers_of(spoken: Conversation, rows: Mapping[str, Sequence[Any]]) -> list[list[str | None]]:
    """The answers of each column of answers, or the last ones of the messages, each (rows,); None for none."""
    if spoken.answers:
        return [list(rows[column]) for column in spoken.answers]
    last = [_cell(cell)[-1] for cell in rows[spoken.source]]
    return [[message["content"] if message["role"] == ASSISTANT else None for message in last]]


def with_answer(messages: Messages, answer: str) -> Messages:
    """The conversation with an answer of the assistant."""
    return [*messages, {"role": ASSISTANT, "content": answer}]


def _cell(cell: str) -> Messages:
    messages: Messages = json.loads(cell)
    return messages
