"""A text written from another one, by the decoder of the backbone and its own head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from eir_seq.config.strict import Strict
from eir_seq.outputs.base import Output, Rows
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.outputs.language.scores import FittedTokenScores
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig


class Seq2SeqLmState(Strict):
    """What a sequence-to-sequence output remembers: its config, with the input that it reads."""

    type: Literal["seq2seq_lm"] = "seq2seq_lm"
    name: str
    config: Seq2SeqLmOutputConfig


class FittedSeq2SeqLm(FittedTokenScores):
    """A sequence-to-sequence output.

    Raw outputs are those of `Seq2SeqLmHead`. Targets are zeros, (rows,): the texts stand among the tensors of the input
    as labels. Metrics of written texts are those of `eir_seq.outputs.generation.writing`.
    """

    config: Seq2SeqLmOutputConfig
    backbone_task = "seq2seq-lm"

    def truth(self, rows: Rows) -> dict[str, list[Any]]:
        """The column NAME_true with the texts."""
        return {f"{self.name}_true": list(rows[self.config.column])}

    def targets(self, rows: Rows, ids: Sequence[str] | None = None) -> Tensor:
        """Zeros, (rows,)."""
        del ids
        return torch.zeros(len(rows[self.config.column]))

    def build_head(self, in_features: int) -> Seq2SeqLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without parameters of its own."""
        del in_features
        return Seq2SeqLmHead(self.config.label_smoothing)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """No column: texts are written one by one (`eir_seq.outputs.generation.writing`)."""
        del raw
        return {}

    def measure_texts(self, written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
        """Metrics of written texts, each beside the true one."""
        from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics

        return text_metrics(written, true, bleu_tokenizer=self.config.bleu_tokenizer)

    def describe(self) -> dict[str, Any]:
        """Type, input and column."""
        return {**super().describe(), "column": self.config.column}


class Seq2SeqLm(Output):
    """A sequence-to-sequence output as declared; what there is to fit, the tokenizer, its input fits."""

    STATE = Seq2SeqLmState
    FITTED = FittedSeq2SeqLm
