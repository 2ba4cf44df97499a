"""A language model: each token of an input predicted from those before it, by the backbone's own head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import row_sums, token_nll
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import Output, TargetRows
from eir_seq.outputs.causal_lm.config import CausalLmOutputConfig
from eir_seq.outputs.generation.answers import Answering, answering, measure_answers, true_answers
from eir_seq.outputs.language.scores import FittedTokenScores

UNCOUNTED = "the bytes of rows of one text each are not counted"


class CausalLmState(Strict):
    """The state of a language-model output: its config, with the input that it reads."""

    type: Literal["causal_lm"] = "causal_lm"
    name: str
    config: CausalLmOutputConfig


class CausalLmHead(nn.Module):
    """Scores tokens by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its tokens but the first, and their number: (batch, 2).

        Scores of a whole batch over a large vocabulary are never held at once. In training what else the backbone's
        loss has (that of routers) is spread over the tokens.
        """
        head: Any = tokens.head
        predicted = learned_tokens(tokens.mask, tokens.inputs.get("labels"))
        labels = tokens.inputs["input_ids"][:, 1:]
        nll = token_nll(tokens.states[:, :-1][predicted], labels[predicted], head.scores, factors=head.factors)
        sums = of_rows(row_sums(nll, predicted), tokens.inputs)
        counts = of_rows(predicted.sum(dim=1).to(sums.dtype), tokens.inputs)
        if self.training and tokens.further_loss is not None:
            sums = sums + tokens.further_loss * counts  # the mean over tokens then has it once
        return torch.stack([sums, counts], dim=1)


def predicted_tokens(mask: Tensor) -> Tensor:
    """Which tokens but the first are predicted from the one before them, (batch, length - 1), by (batch, length)."""
    return mask[:, 1:] & mask[:, :-1]


def learned_tokens(mask: Tensor, labels: Tensor | None) -> Tensor:
    """Those of `predicted_tokens` that have a loss, (batch, length - 1): where `labels` (batch, length) are given, all
    that are not negative."""
    predicted = predicted_tokens(mask)
    return predicted if labels is None else predicted & (labels[:, 1:] >= 0)


def of_rows(values: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """What texts have, (texts,), summed over those of a row, (rows,), where rows are several texts."""
    rows = inputs.get("window_rows")
    return values if rows is None else values.new_zeros(int(rows[-1]) + 1).index_add(0, rows, values)


class FittedCausalLm(FittedTokenScores):
    """A language-model output.

    Raw outputs are those of `CausalLmHead`. Targets are the UTF-8 bytes of text that the predicted tokens of each row
    stand for, (rows,); zero where that is not known, and then there are no bits per byte.
    """

    config: CausalLmOutputConfig
    backbone_task = "causal-lm"

    def targets_of_texts(self, rows: int, text_bytes: Mapping[str, NDArray[Any]]) -> Tensor:
        """The bytes of text in each row, (rows,); zeros where they are not counted."""
        return torch.as_tensor(text_bytes.get(self.input, np.zeros(rows)), dtype=torch.float64)

    def build_head(self, in_features: int) -> CausalLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without its own parameters."""
        del in_features
        return CausalLmHead()

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The tokens of each row that are predicted, (batch, 1)."""
        del target
        own = inputs[self.input]
        counts = learned_tokens(own["attention_mask"].bool(), own.get("labels")).sum(dim=1)
        return of_rows(counts, own)[:, None]

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """Of conversations the column NAME_true with the last answers."""
        return {name: [text or "" for text in texts] for name, texts in true_answers(self, rows).items()}

    def text_source(self, network: Any, inputs: Mapping[str, Any]) -> Answering | None:
        """What answers in conversations."""
        return answering(self, network, inputs)

    def measure_texts(self, written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
        """Exact match and ROUGE-L of answers."""
        return measure_answers(written, true)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """Loss per token of each row; of conversations no column, as answers are written one by one."""
        return super().decode(raw) if self.config.conversation is None else {}

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Bits per byte where it is not known how many bytes the tokens stand for."""
        conversation = self.config.conversation is not None
        return {} if target.any() or conversation else {"bits_per_byte": UNCOUNTED}

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per token, perplexity, and bits per byte of the text, which does not depend on the tokenizer."""
        values = super().evaluate(raw, target)
        size = float(target.double().sum())
        bits = float(raw[:, 0].double().sum()) / math.log(2)
        return values | ({"bits_per_byte": bits / size} if values and size else {})


class CausalLm(Output):
    """A language-model output as declared; there is nothing to fit."""

    STATE = CausalLmState
    FITTED = FittedCausalLm
