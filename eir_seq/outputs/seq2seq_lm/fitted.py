"""A text written from another one, by the decoder of the backbone and its own head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from eir_seq.config.strict import Strict
from eir_seq.outputs.base import TargetRows
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.outputs.language.scores import FittedTokenScores
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig


class Seq2SeqLmState(Strict):
    """The state of a sequence-to-sequence output: its config, with the input that it reads."""

    type: Literal["seq2seq_lm"] = "seq2seq_lm"
    name: str
    config: Seq2SeqLmOutputConfig
    longest: int | None = Field(None, description="tokens of the longest training target of its own decoder")
    backbone: dict[str, Any] | None = Field(None, description="type and options of its own pretrained decoder")


class FittedSeq2SeqLm(FittedTokenScores):
    """A sequence-to-sequence output.

    Raw outputs are those of `Seq2SeqLmHead`. Targets are zeros, (rows,): the texts are among the tensors of the input
    as labels. Metrics of written texts are those of `eir_seq.outputs.generation.writing`.
    """

    config: Seq2SeqLmOutputConfig
    backbone_task: str | None = "seq2seq-lm"

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the texts."""
        return {f"{self.name}_true": list(rows[self.config.column])}

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Zeros, (rows,)."""
        del ids
        return torch.zeros(len(rows[self.config.column]))

    def build_head(self, in_features: int) -> Seq2SeqLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without its own parameters."""
        del in_features
        return Seq2SeqLmHead(self.config.label_smoothing)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """No column: texts are written one by one (`eir_seq.outputs.generation.writing`)."""
        del raw
        return {}

    def text_source(self, network: Any, inputs: Mapping[str, Any]) -> TextSource:
        """The backbone of the input, which writes from it."""
        name, fitted = self.input, inputs[self.input]
        encoder, longest = network.encoder(name), int(fitted.target_statistics["max"])
        if (places := encoder.backbone.config.target_positions()) is not None:
            longest = min(longest, places - 1)

        def read(batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
            tensors: Mapping[str, Tensor] = batch["inputs"][name]
            return tensors

        before, after = fitted.target_frame
        rows, column = self.config.generate_rows, self.config.column
        return TextSource([name], read, encoder, fitted.tokenizer, before, after, fitted.end, longest, column, rows)

    def measure_texts(self, written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
        """Metrics of generated texts, each with its reference."""
        from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics

        return text_metrics(written, true, bleu_tokenizer=self.config.bleu_tokenizer)

    def describe(self) -> dict[str, Any]:
        """Type, input and column."""
        return {**super().describe(), "column": self.config.column}
