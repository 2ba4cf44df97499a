"""Which sequence input a purpose needs, and which one a bundle holds."""

from __future__ import annotations

from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import STATE_FILE, Purpose
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.conversations import ConversationModality, FittedConversations
from eir_seq.modalities.sequence.documents import DocumentsModality, FittedDocuments
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.modalities.sequence.preprocess import SequenceModality
from eir_seq.modalities.sequence.questions import FittedQuestions, QuestionModality
from eir_seq.modalities.sequence.seq2seq import FittedSeq2Seq, Seq2SeqModality

FITTED: dict[str, type[FittedSequence]] = {
    "sequence": FittedSequence,
    "documents": FittedDocuments,
    "seq2seq": FittedSeq2Seq,
    "questions": FittedQuestions,
    "conversations": FittedConversations,
}
"""Fitted inputs by the `type` in their ``input.json``."""


class SequenceFactory(SequenceModality):
    """What an input of `type: sequence` is built and loaded by."""

    @classmethod
    def build(cls, name: str, config: SequenceInputConfig, purpose: Purpose) -> SequenceModality:
        """By its purpose: the source of written texts, documents of a language model, a text with a question, or a
        text."""
        if purpose.conversation is not None:
            return ConversationModality(name, config, spoken=purpose.conversation, cache=purpose.cache)
        if purpose.written is not None:
            return Seq2SeqModality(name, config, output=purpose.written, cache=purpose.cache)
        if purpose.layout is not None:
            return DocumentsModality(name, config, purpose.layout, cache=purpose.cache)
        if purpose.questions is not None:
            return QuestionModality(
                name, config, questions=purpose.questions, sentinels=purpose.sentinels, cache=purpose.cache
            )
        return super().build(name, config, purpose)

    @classmethod
    def load(cls, folder: Path) -> FittedSequence:
        """The fitted input of the type that ``input.json`` names; raises `UserError` if there is none."""
        path = folder / STATE_FILE
        try:
            fitted = FITTED[read_json(path)["type"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted input ({type(error).__name__}: {error})")) from None
        return fitted.load(folder)
