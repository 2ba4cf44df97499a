"""Conversations as tokens: the chat template that writes them, and which tokens a model learns to write.

A tokenizer that is trained here, or published without a template, gets a plain one: the role of each message as a mark
(``<|user|>``), its content, and a token that ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import read_text
from eir_seq.tokenizers.chat import DEFAULT, Conversation
from eir_seq.tokenizers.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
ASSISTANT, USER, SYSTEM = "assistant", "user", "system"
END_OF_TURN = "<|end|>"
MARKS = (*(f"<|{role}|>" for role in ROLES), END_OF_TURN)
"""Tokens that a tokenizer gets which is trained on conversations."""
_PROBE = "Xy7Q"
Learned = Literal["answers", "last", "all"]
Ids = NDArray[np.int32]


def template_of(end: str, *, start: str = "", suffix: str = "") -> str:
    """The plain template: `start`, then of each message the role as a mark, the content and `end`.

    Args:
        end: the token that ends each message.
        start: the token that begins a conversation.
        suffix: what follows each mark and each end, such as the end of a line.

    Example:
        >>> from eir_seq.tokenizers import train_tokenizer
        >>> tokenizer = train_tokenizer("byte", [])
        >>> talk = [{"role": "user", "content": "Hi"}]
        >>> template = template_of("<|end|>")
        >>> tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False, add_generation_prompt=True)
        '<|user|>Hi<|end|><|assistant|>'
    """
    quoted = suffix.replace("\n", "\\n")
    own = f"{{{{ '<|' + message['role'] + '|>{quoted}' + message['content'] + '{end}{quoted}' }}}}"
    opening = f"{{% if add_generation_prompt %}}{{{{ '<|assistant|>{quoted}' }}}}{{% endif %}}"
    return f"{start}{{% for message in messages %}}{own}{{% endfor %}}{opening}"


def prepare_trained(tokenizer: Tokenizer) -> None:
    """Give a tokenizer that was trained here the marks of the plain template, and the template."""
    tokenizer.add_tokens(list(MARKS))
    tokenizer.chat_templates = {DEFAULT: template_of(END_OF_TURN)}


def find_template(tokenizer: Tokenizer, chosen: str | None, place: str) -> str:
    """The template that is chosen: its text, a file of it, or a name among those of the tokenizer.

    Raises:
        UserError: there is no such file or name.
    """
    if chosen is None:
        return tokenizer.chat_templates.get(DEFAULT) or _plain(tokenizer, place)
    if "{" in chosen:
        return chosen
    if chosen in tokenizer.chat_templates:
        return tokenizer.chat_templates[chosen]
    if chosen.endswith((".jinja", ".jinja2", ".txt")):
        path = Path(chosen).expanduser()
        try:
            return read_text(path)
        except (OSError, ValueError) as error:
            raise UserError(Fault(place, f"{chosen!r} cannot be read ({error})")) from None
    known = ", ".join(tokenizer.chat_templates) or "none"
    message = f"{chosen!r} is no template (those of the tokenizer: {known}){nearest(chosen, tokenizer.chat_templates)}"
    raise UserError(Fault(place, f"{message}; give a name of these, a file (.jinja) or the template itself"))


def _plain(tokenizer: Tokenizer, place: str) -> str:
    specials = tokenizer.specials
    end = specials.eos or specials.sep
    if end is None:
        message = "the tokenizer has no template and no token that ends a text (eos or sep); give a template"
        raise UserError(Fault(place, message))
    start = specials.bos if specials.bos not in (None, end) else ""
    return template_of(end, start=start or "", suffix="\n")


class CannotWrite(ValueError):
    """A conversation that the template refuses, or of which it cannot be said where answers are: the reason."""


@dataclass(frozen=True)
class Spoken:
    """A conversation as tokens.

    Attributes:
        ids: its tokens.
        learned: which of them have a loss.
        answer: the place of the first token of the last answer; the number of tokens if that is to be written.
        total: tokens before turns were left out.
    """

    ids: Ids
    learned: NDArray[np.bool_]
    answer: int
    total: int


@dataclass(frozen=True)
class Chat:
    """Writes conversations by a template, as tokens.

    Raises `UserError` at `place` for a template that does not end an answer by one token, which would never stop.
    """

    tokenizer: Tokenizer
    template: str
    place: str = "chat_template"

    def __post_init__(self) -> None:
        assert self.end >= 0

    @cached_property
    def end(self) -> int:
        """The token that ends an answer."""
        ids = self._tokens(self._ending)[0]
        if len(ids) != 1:
            written = "nothing" if not self._ending else f"{self._ending!r} ({len(ids)} tokens)"
            message = f"the template writes {written} after an answer; one token has to end it, such as {{{{ eos_token"
            raise UserError(Fault(self.place, f"{message} }}}}"))
        return int(ids[0])

    @cached_property
    def _ending(self) -> str:
        talk = [{"role": USER, "content": "a"}, {"role": ASSISTANT, "content": _PROBE}]
        try:
            return self._render(talk).rpartition(_PROBE)[2].strip()
        except CannotWrite as error:
            raise UserError(Fault(self.place, f"cannot write a question and its answer: {error}")) from None

    def prompt(self, messages: Conversation, length: int | None = None) -> Ids:
        """The tokens of a conversation up to where the assistant answers.

        Of more than `length` tokens, the oldest turns are left out, and then the beginning of what is left.

        Raises:
            CannotWrite: the template refuses it.
        """
        ids: Ids
        ids, _ = self._within(messages, length, lambda talk: self._tokens(self._render(talk, opened=True)))
        return ids if length is None else ids[max(0, len(ids) - length) :]

    def spoken(self, messages: Conversation, learned: Learned = "answers", length: int | None = None) -> Spoken:
        """A conversation that ends with an answer.

        Of more than `length` tokens, the oldest turns are left out but for the system's; then the beginning of the
        last prompt, of which at least a fourth of `length` stays, and then the end of the answer.

        Raises:
            CannotWrite: the template refuses it.
        """
        total: list[int] = []

        def read(talk: Conversation) -> tuple[Ids, tuple[NDArray[np.bool_], int]]:
            text, spans = self._written(talk, learned)
            ids, places = self._tokens(text)
            inside = [(places[:, 0] >= start) & (places[:, 1] <= stop) for start, stop in spans]
            total.append(len(ids))
            last = np.flatnonzero(inside[-1])
            mask = np.ones(len(ids), bool) if learned == "all" else np.logical_or.reduce(inside)
            return ids, (mask, int(last[0]) if len(last) else len(ids))

        ids, (mask, answer) = self._within(messages, length, read)
        if length is not None and len(ids) > length:
            kept = min(answer, max(length - (len(ids) - answer), length // 4))
            part = slice(answer - kept, answer - kept + length)
            ids, mask, answer = ids[part], mask[part], kept
        return Spoken(ids, mask, answer, total[0])

    def _within(self, messages: Conversation, length: int | None, read: Any) -> Any:
        found = read(messages)
        while length is not None and len(found[0]) > length and (fewer := without_oldest(messages)) is not None:
            messages, found = fewer, read(fewer)
        return found

    def _written(self, messages: Conversation, learned: Learned) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where answers with their ends are in it; the last one alone where it alone is learned."""
        full, spans = self._render(messages), []
        answers = [number for number, message in enumerate(messages) if message["role"] == ASSISTANT]
        for number in answers if learned == "answers" else answers[-1:]:
            whole = full if number + 1 == len(messages) else self._render(messages[: number + 1])
            before = self._render(messages[:number], opened=True)
            if not whole.startswith(before):
                before = self._render(messages[:number])
            if not (full.startswith(whole) and whole.startswith(before)):
                hint = "" if len(answers) == 1 else "; train_on: last learns the last answer alone"
                raise CannotWrite(f"the template writes the turns before an answer otherwise with it{hint}")
            spans.append((len(before), len(whole.rstrip())))
        return full, spans

    @cached_property
    def _plain(self) -> tuple[str, str, str] | None:
        """Start, end and what follows marks, of a plain template, which needs no process of its own."""
        own = self.tokenizer.specials
        for end in (END_OF_TURN, own.eos, own.sep):
            for start in ("", own.bos):
                for more in ("", "\n"):
                    if start is not None and end and self.template == template_of(end, start=start, suffix=more):
                        return start, end, more
        return None

    def _render(self, messages: Conversation, *, opened: bool = False) -> str:
        if self._plain is not None:
            start, end, more = self._plain
            said = "".join(f"<|{one['role']}|>{more}{one['content']}{end}{more}" for one in messages)
            return f"{start}{said}<|{ASSISTANT}|>{more}" if opened else f"{start}{said}"
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=opened
            )
        except UserError as error:
            raise CannotWrite(error.faults[0].message.partition(": ")[2] or str(error)) from None
        return text

    def _tokens(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Ids, and the characters of each, (tokens, 2)."""
        pieces = [text] if self._split is None else text.split(self._split)
        ids: list[int] = []
        places: list[tuple[int, int]] = []
        start = 0
        for number, encoding in enumerate(self.tokenizer.encode_batch(pieces, offsets=True)):
            if number and self._split is not None:
                ids.append(self._split_id)
                places.append((start, start + len(self._split)))
                start += len(self._split)
            assert encoding.offsets is not None
            ids += encoding.ids
            places += [(start + first, start + last) for first, last in encoding.offsets]
            start += len(pieces[number])
        return np.array(ids, np.int32), np.array(places, np.int64).reshape(-1, 2)

    @cached_property
    def _split(self) -> str | None:
        """The token that ends an answer, where the tokenizer does not read it from texts."""
        ending = self._ending
        known = self.tokenizer.token_to_id(ending) if ending else None
        return ending if known is not None and self.tokenizer.encode_batch([ending])[0].ids != [known] else None

    @cached_property
    def _split_id(self) -> int:
        found = self.tokenizer.token_to_id(self._split or "")
        assert found is not None
        return found


def without_oldest(messages: Conversation) -> Conversation | None:
    """The conversation without its oldest turns, up to the next of the user; None if that is the only one.

    >>> talk = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user", "assistant")]
    >>> [message["role"] for message in without_oldest(talk)]
    ['system', 'user', 'assistant']
    >>> without_oldest(without_oldest(talk)) is None
    True
    """
    head = next((number for number, message in enumerate(messages) if message["role"] != SYSTEM), len(messages))
    later = (number for number in range(head + 1, len(messages)) if messages[number]["role"] == USER)
    place = next(later, None)
    return None if place is None else [*messages[:head], *messages[place:]]


def message_fault(value: Any, *, answered: bool) -> str | None:
    """Why a value is no conversation, or None.

    Args:
        value: what a cell holds.
        answered: whether it has to end with an answer of the assistant; otherwise it may.
    """
    if not isinstance(value, list):
        shown = str(value)[:40]
        return f'is {shown!r}, not a list of messages such as [{{"role": "user", "content": "Hello"}}]'
    if not value:
        return "has no message"
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            return f"has a message {number} without role and content"
        if message["role"] not in ROLES:
            return f"has the unknown role {message['role']!r} (message {number}; {', '.join(ROLES)})" + nearest(
                str(message["role"]), ROLES
            )
        if not isinstance(message["content"], str):
            return f"has a message {number} whose content is no text"
        if not message["content"].strip():
            return f"has a message {number} ({message['role']}) without content"
        if "\0" in message["content"]:
            return f"has a NUL character in message {number}"
    if all(message["role"] == ASSISTANT for message in value):
        return "has no message of the user"
    if answered and value[-1]["role"] != ASSISTANT:
        return f"does not end with an answer of the assistant, but with the role {value[-1]['role']!r}"
    return None


def shown(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation for people: a single message as it is, several with their roles."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
