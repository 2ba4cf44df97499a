"""Conversations that a language model learns to continue: tokens of the chat template, losses on answers alone.

A row is a conversation, or where answers are compared the same one with each of them. Training rows may be several
conversations (``packed``). In a batch every conversation is a text for itself: none attends to another, and each has
its own positions. Where the architecture computes texts without padding, a packed row costs what its tokens do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.outputs import Conversation
from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import LENGTH, STATE_FILE, TOKENS, RowSource, ragged
from eir_seq.modalities.encoders.reference import with_reference
from eir_seq.modalities.sequence.batches import IDS
from eir_seq.modalities.sequence.conversation_cells import ConversationCells
from eir_seq.modalities.sequence.fitted import ROWS_PER_BATCH, SHORTENED, UNKNOWN, FittedSequence
from eir_seq.modalities.sequence.packing import pack, sums
from eir_seq.modalities.sequence.preprocess import ROWS_MEASURED, SequenceModality, batches_of
from eir_seq.models.heads.base import IGNORED
from eir_seq.randomness import Draw
from eir_seq.tokenizers.chat import DEFAULT
from eir_seq.tokenizers.conversation import USER, CannotWrite, Chat, Spoken, find_template, prepare_trained, shown
from eir_seq.tokenizers.conversation_rows import Messages, answers_of, prompts_of, with_answer

if TYPE_CHECKING:
    from eir_seq.rows import Rows

LEARNED, REASON = "learned", "reason"
"""Encoded columns: which tokens have a loss (0 or 1); why a row cannot be written, as UTF-8."""


def _of_answer(column: str, number: int) -> str:
    return f"{column}_{number}" if number else column


@dataclass(frozen=True, kw_only=True)
class ConversationModality(SequenceModality):
    """Conversations, as the output that continues them says."""

    spoken: Conversation

    @property
    def cells(self) -> ConversationCells:
        """How its columns are checked."""
        return ConversationCells(self.spoken, answered=True)

    def fit(self, train_rows: Rows, seed: int) -> FittedConversations:
        """Train or load the tokenizer, and find the template.

        Raises `UserError` for a template that is none, or that does not end answers.
        """
        del seed  # tokenizers are trained without randomness
        tokenizer = self._tokenizer(train_rows)
        declared = self.config.tokenizer
        trained = not self.config.model.pretrained_model if declared is None else declared.published is None
        if self.given is None and trained and not tokenizer.chat_templates:
            prepare_trained(tokenizer)
        place = f"outputs.{self.spoken.output}.chat_template"
        template = find_template(tokenizer, self.spoken.chat_template, place)
        tokenizer.chat_templates = {**tokenizer.chat_templates, DEFAULT: template}
        length = self.config.max_length
        fitted = FittedConversations(
            self.name, self.config, tokenizer, 2**31 - 1 if isinstance(length, str) else length,
            spoken=self.spoken, template=template,
        )  # fmt: skip
        assert fitted.chat.end >= 0  # raises where the template is of no use
        step = 1 if isinstance(length, str) else max(1, train_rows.num_rows // ROWS_MEASURED)
        lengths, unknown = fitted.measure(train_rows.select(range(0, train_rows.num_rows, step)))
        wanted = {"average": round(float(lengths.mean())), "max": int(lengths.max())}
        most = wanted[length] if isinstance(length, str) else length
        statistics = {
            "rows": len(lengths),
            "min": int(lengths.min()),
            "mean": round(float(lengths.mean()), 1),
            "max": int(lengths.max()),
            "truncated": round(float((lengths > most).mean()), 4),
            "unknown": round(unknown, 4),
        }
        return replace(fitted, max_length=most, statistics=statistics)

    @property
    def _text_columns(self) -> list[str]:
        return _columns(self.spoken)

    def _texts(self, rows: Rows) -> Iterator[str]:
        limit = self.config.max_characters
        for batch in batches_of(rows, self._text_columns):
            answers = answers_of(self.spoken, batch)
            for number, messages in enumerate(prompts_of(self.spoken, batch)):
                yield from (message["content"][:limit] for message in messages)
                yield from (own[:limit] for column in answers if (own := column[number]) is not None)


@dataclass(kw_only=True)
class FittedConversations(FittedSequence):
    """Conversations with their tokenizer and their template."""

    spoken: Conversation = field(default_factory=Conversation)
    template: str = ""

    @cached_property
    def chat(self) -> Chat:
        """Writes conversations as tokens."""
        return Chat(self.tokenizer, self.template, f"outputs.{self.spoken.output}.chat_template")

    @property
    def cells(self) -> ConversationCells:
        """How rows are checked that are to be answered."""
        return ConversationCells(self.spoken, answered=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the conversation and of the answers."""
        return tuple(_columns(self.spoken))

    @property
    def frame(self) -> tuple[tuple[int, ...], int | None]:
        """No tokens before what the template writes, and the one that ends an answer."""
        return (), self.chat.end

    def prompt_ids(self, prompts: Sequence[str], room: int | None) -> list[list[int]]:
        """The tokens of conversations that begin with these words of the user, up to where they are answered."""
        return [self.prompt_of([{"role": USER, "content": prompt}], room) for prompt in prompts]

    def prompt_of(self, messages: Messages, room: int | None) -> list[int]:
        """The tokens of a conversation up to where it is answered, `room` at most: see `Chat.prompt`.

        Raises:
            UserError: the template refuses it.
        """
        try:
            ids: list[int] = self.chat.prompt(messages, room).tolist()
        except CannotWrite as error:
            place = f"outputs.{self.spoken.output}"
            raise UserError(Fault(place, f"the template refuses a conversation: {error}")) from None
        return ids

    def prompt_of_row(self, row: Mapping[str, Sequence[Any]], room: int | None) -> list[int]:
        """The tokens of a single row up to where it is answered."""
        return self.prompt_of(prompts_of(self.spoken, row)[0], room)

    def columns_of_texts(self, texts: Sequence[str]) -> dict[str, list[str | None]]:
        """The columns of rows without answers, in which the user says these texts."""
        messages = self.spoken.messages is not None
        said = [json.dumps([{"role": USER, "content": text}]) for text in texts] if messages else list(texts)
        empty = [*self.spoken.answers, *([self.spoken.system] if self.spoken.system else [])]
        return {self.spoken.source: list(said), **{column: [None] * len(texts) for column in empty}}

    @property
    def collator(self) -> ConversationCollator:  # type: ignore[override]  # it reads other rows
        """Makes tensors of conversations."""
        pads = (self.tokenizer.pad_id, self.tokenizer.eos_id, 0)
        return ConversationCollator(next(token for token in pads if token is not None), self._per_row)

    @property
    def _per_row(self) -> int:
        return max(1, len(self.spoken.answers))

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Any:
        """As of any text; where answers are compared, with the model that training begins with as their reference."""
        encoder = super().build_encoder(data, pretrained=pretrained, task=task)
        if self.spoken.layout == "packed":  # what the longest text of a batch would add has no bound
            for module in encoder.modules():
                if hasattr(module, "packs_for_kernel"):
                    module.packs_for_kernel = True
        if self._per_row == 1:
            return encoder
        lora = self.config.model.lora
        return with_reference(encoder, fresh_adapters=lora is not None and lora.adapter is None)

    def fingerprint(self) -> str:
        """Hash of all that `encode` depends on."""
        options = {**asdict(self.spoken), "layout": None, "output": None, "chat_template": self.template}
        state = json.dumps([self.tokenizer.fingerprint(), options, self.max_length, self.config.max_characters])
        return hashlib.sha256(f"conversations {state}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """Tokens of each conversation, with each of its answers, and which have a loss.

        A row without an answer has the tokens up to it, and no loss. One that the template refuses has none, and the
        reason (`arrange` raises it, with the names of rows).
        """
        answers, per_row = answers_of(self.spoken, rows), self._per_row
        found: list[list[Spoken]] = [[] for _ in range(per_row)]
        reasons = []
        for row, messages in enumerate(prompts_of(self.spoken, rows)):
            reason = ""
            for number in range(per_row):
                try:
                    found[number].append(self._encoded_conversation(messages, answers[number][row]))
                except CannotWrite as error:
                    reason = str(error)
                    found[number].append(Spoken(np.empty(0, np.int32), np.empty(0, bool), 0, 0))
            reasons.append(np.frombuffer(reason.encode(), np.uint8).astype(np.int32))
        whole = list(zip(*found, strict=True))
        tokens = np.array([sum(one.total for one in row) for row in whole], np.int32)
        lengths = np.array([sum(len(one.ids) for one in row) for row in whole], np.int32)
        unknown = [sum(self._count_unknown(one.ids) for one in row) for row in whole]
        columns = {
            TOKENS: pa.array(tokens),
            LENGTH: pa.array(lengths),
            SHORTENED: pa.array((lengths < tokens).astype(np.int32)),
            UNKNOWN: pa.array(unknown, pa.int32()),
            REASON: ragged(reasons),
        }
        for number, spoken in enumerate(found):
            columns[_of_answer(IDS, number)] = ragged([one.ids for one in spoken])
            columns[_of_answer(LEARNED, number)] = ragged([one.learned for one in spoken])
        return columns

    def _encoded_conversation(self, messages: Messages, answer: str | None) -> Spoken:
        limit = self.config.max_characters
        messages = [{**message, "content": message["content"][:limit]} for message in messages]
        if answer is not None:
            talk = with_answer(messages, answer[:limit])
            return self.chat.spoken(talk, self.spoken.learned, self.max_length)
        ids = self.chat.prompt(messages, self.max_length)
        return Spoken(ids, np.zeros(len(ids), bool), len(ids), len(ids))

    def measure(self, rows: Rows) -> tuple[Any, float]:
        """Tokens of each row before turns are left out, and the share of unknown tokens."""
        parts = [self.encode(rows[i : i + ROWS_PER_BATCH]) for i in range(0, rows.num_rows, ROWS_PER_BATCH)]
        tokens = np.concatenate([part[TOKENS].to_numpy() for part in parts])
        unknown = sum(int(part[UNKNOWN].to_numpy().sum()) for part in parts)
        return tokens // self._per_row, unknown / max(1, int(tokens.sum()))

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """Warnings about long conversations and unknown tokens; raises `UserError` if there are no others."""
        tokens, unknown = encoded.numbers(LENGTH), encoded.numbers(UNKNOWN)
        share, place = float(unknown.sum() / max(1, tokens.sum())), f"inputs.{self.name}"
        if share == 1:
            message = f"every token of the {split} rows is unknown to the tokenizer; is it one for such texts?"
            raise UserError(Fault(f"{place}.tokenizer", message))
        warnings = [f"{place}: {share:.0%} of the tokens of the {split} rows are unknown"] * (share >= 0.01)
        if cut := int(encoded.numbers(SHORTENED).sum()):
            what = f"{cut:,} of {len(tokens):,} {split} conversations are longer than {self.max_length} tokens"
            warnings.append(f"{place}: {what}; their oldest turns are left out, or the beginning of the prompt")
        return warnings

    def arrange(self, encoded: RowSource, ids: Sequence[str], split: str) -> tuple[RowSource, Sequence[str]]:
        """Several conversations per row in training, where they are packed.

        Raises:
            UserError: rows that the template refuses, with their names and the reasons.
        """
        self._refuse(encoded, ids, split)
        if self.spoken.layout != "packed" or split != "train":
            return encoded, ids
        rows = PackedRows(encoded, self.max_length)
        return rows, [f"packed-{number}" for number in range(1, len(rows.texts) + 1)]

    def _refuse(self, encoded: RowSource, ids: Sequence[str], split: str) -> None:
        refused = np.flatnonzero(encoded.numbers(LENGTH) == 0).tolist()
        if not refused:
            return
        said = encoded.sequences(REASON, refused)
        reasons = [bytes(text.astype(np.uint8)).decode() or "it has no token" for text in said]
        faults = []
        for reason in dict.fromkeys(reasons):
            rows = [row for row, own in zip(refused, reasons, strict=True) if own == reason]
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            named = f"row{'s' * (len(rows) > 1)} {', '.join(repr(ids[row]) for row in rows[:5])}{more}"
            message = f"the template refuses the conversation of {split} {named}: {reason}"
            faults.append(Fault(f"outputs.{self.spoken.output}", message))
        raise UserError(*faults[:10])

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """What is answered, in readable form."""
        return [shown(messages) for messages in prompts_of(self.spoken, rows)]

    def show_arranged(self, rows: Rows, encoded: RowSource, places: Sequence[int]) -> list[str]:
        """The texts of packed rows."""
        if not isinstance(encoded, PackedRows):
            return super().show_arranged(rows, encoded, places)
        texts = [np.concatenate(encoded.rows.sequences(IDS, encoded.texts[row])) for row in places]
        return [self.tokenizer.decode(ids) for ids in texts]

    def describe(self) -> dict[str, Any]:
        """Tokenizer, length, tokens per conversation, and the layout."""
        described = {key: value for key, value in super().describe().items() if key not in ("truncation", "column")}
        return {**described, "columns": list(self.columns), "conversations": self.spoken.layout}

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the tokenizer's files into `folder`."""
        super().save(folder)
        path = Path(folder) / STATE_FILE
        own = {"conversation": asdict(self.spoken), "template": self.template}
        state = {**read_json(path), "type": "conversations", **own}
        path.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedConversations:
        """What `save` wrote; raises `UserError` if files are missing or damaged."""
        fitted = super().load(folder)
        assert isinstance(fitted, cls)
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            own = state["conversation"]
            spoken = Conversation(**{**own, "answers": tuple(own["answers"])})
            return replace(fitted, spoken=spoken, template=str(state["template"]))
        except (KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted conversations ({type(error).__name__}: {error})")) from None


def _columns(spoken: Conversation) -> list[str]:
    found = (spoken.prompt, spoken.messages, spoken.system, *spoken.answers)
    return list(dict.fromkeys(column for column in found if column is not None))


@dataclass(frozen=True)
class PackedRows:
    """Encoded conversations, several per row of up to `length` tokens."""

    rows: RowSource
    length: int

    @property
    def features(self) -> Collection[str]:
        """Lengths alone."""
        return (LENGTH, TOKENS)

    @cached_property
    def texts(self) -> list[list[int]]:
        """The conversations of each row."""
        return pack(self.rows.numbers(LENGTH).astype(np.int64), self.length)

    def numbers(self, feature: str) -> NDArray[Any]:
        """The `length` of each row; `tokens` are those of each conversation."""
        if feature == TOKENS:
            return self.rows.numbers(TOKENS)
        assert feature == LENGTH, feature
        return sums(self.rows.numbers(LENGTH).astype(np.int64), self.texts).astype(np.int32)

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        """None: the collator reads those of the conversations."""
        raise KeyError((feature, rows))

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        """None."""
        raise KeyError((feature, rows))


@dataclass(frozen=True)
class ConversationCollator:
    """Conversations to tensors; `per_row`: those of a row, one for each of its answers."""

    pad_id: int
    per_row: int = 1

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `labels`, (conversations, length); `window_rows` (conversations,).

        `labels` are the tokens that have a loss, `IGNORED` elsewhere; `window_rows` the rows' numbers in the batch.
        """
        del draw
        source, texts, of = encoded, list(rows), list(range(len(rows)))
        if isinstance(encoded, PackedRows):
            source, texts = encoded.rows, [text for row in rows for text in encoded.texts[row]]
            of = [number for number, row in enumerate(rows) for _ in encoded.texts[row]]
        columns = [
            (source.sequences(_of_answer(IDS, n), texts), source.sequences(_of_answer(LEARNED, n), texts))
            for n in range(self.per_row)
        ]
        ids = [column[0][text] for text in range(len(texts)) for column in columns]
        learned = [column[1][text] for text in range(len(texts)) for column in columns]
        lengths = np.array([len(own) for own in ids])
        input_ids = np.full((len(ids), lengths.max()), self.pad_id, np.int64)
        labels = np.full_like(input_ids, IGNORED)
        mask = np.arange(lengths.max()) < lengths[:, None]
        input_ids[mask] = np.concatenate(ids)
        labels[mask] = np.where(np.concatenate(learned) > 0, np.concatenate(ids), IGNORED)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
            "window_rows": torch.tensor(np.repeat(of, self.per_row)),
        }
