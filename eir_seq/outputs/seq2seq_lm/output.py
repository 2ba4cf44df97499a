"""A text written from inputs, as the config declares it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from eir_seq.outputs.base import FittedOutput, Output, TargetRows
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.outputs.seq2seq_lm.fitted import FittedSeq2SeqLm, Seq2SeqLmState
from eir_seq.outputs.seq2seq_lm.from_states import FittedTextFromStates, fit_text_from_states, tokenizer_folder
from eir_seq.tokenizers import load_tokenizer


class Seq2SeqLm(Output):
    """A sequence-to-sequence output as declared.

    Its input fits the tokenizer, unless the output has its own decoder (`eir_seq.outputs.seq2seq_lm.from_states`).
    """

    STATE = Seq2SeqLmState
    FITTED = FittedSeq2SeqLm
    config: Seq2SeqLmOutputConfig

    def fit(self, train_rows: TargetRows) -> FittedOutput:
        """Learn the tokenizer of its own decoder."""
        if self.config.model is None:
            return super().fit(train_rows)
        return fit_text_from_states(self.name, self.config, train_rows)

    @classmethod
    def restore(cls, content: Mapping[str, Any], path: Path) -> FittedOutput:
        """The fitted output, with the tokenizer next to `path`."""
        fitted = super().restore(content, path)
        if fitted.config.reads_tokens:
            return fitted
        tokenizer = load_tokenizer(tokenizer_folder(path), local_files_only=True)
        return FittedTextFromStates(cast(Seq2SeqLmState, fitted.state), tokenizer)
