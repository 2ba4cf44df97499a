"""A language model: each token of an input predicted from those in front of it, by the backbone's own head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from eir_seq.config.outputs import CausalLmOutputConfig
from eir_seq.config.schema import Strict
from eir_seq.models.heads.token_nll import token_nll
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import FittedOutput, Rows

LARGEST_EXPONENT = 700.0
"""Beyond, a perplexity is no longer a number of double precision."""


class CausalLmState(Strict):
    """What a language-model output remembers: its config, with the input that it reads."""

    type: Literal["causal_lm"] = "causal_lm"
    name: str
    config: CausalLmOutputConfig


class CausalLm:
    """A language-model output as declared; there is nothing to fit."""

    def __init__(self, name: str, config: CausalLmOutputConfig) -> None:
        self.name = name
        self.config = config

    def fit(self, train_rows: Rows) -> FittedCausalLm:
        """The output; the rows are not looked at."""
        del train_rows
        return FittedCausalLm(CausalLmState(name=self.name, config=self.config))


class CausalLmHead(nn.Module):
    """Scores tokens by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its tokens but the first, and their number: (batch, 2).

        Scores of a whole batch over a large vocabulary are never held at once. In training what else the backbone's
        loss has (that of routers) is spread over the tokens.
        """
        head: Any = tokens.head
        predicted = tokens.mask[:, 1:] & tokens.mask[:, :-1]
        labels = tokens.inputs["input_ids"][:, 1:]
        nll = token_nll(tokens.states[:, :-1][predicted], labels[predicted], head.scores)
        rows = predicted.nonzero()[:, 0]
        sums = nll.new_zeros(len(predicted)).index_add(0, rows, nll)
        counts = predicted.sum(dim=1).to(sums.dtype)
        if self.training and tokens.further_loss is not None:
            sums = sums + tokens.further_loss * counts  # the mean over tokens then has it once
        return torch.stack([sums, counts], dim=1)


class FittedCausalLm(FittedOutput):
    """A language-model output.

    Raw outputs are those of `CausalLmHead`. Targets are the UTF-8 bytes of text that the predicted tokens of each row
    stand for, (rows,); zero where that is not known, and then there are no bits per byte.
    """

    backbone_task = "causal-lm"

    def __init__(self, state: CausalLmState) -> None:
        self._state = state
        self.name = state.name
        self.config: CausalLmOutputConfig = state.config

    @property
    def state(self) -> CausalLmState:
        """All that `save` writes."""
        return self._state

    @property
    def input(self) -> str:
        """The input whose tokens are predicted."""
        assert self.config.input is not None, "settled before the output was built"
        return self.config.input

    @property
    def output_size(self) -> int:
        """Log-likelihood and number of tokens."""
        return 2

    def canonical(self, values: Sequence[Any]) -> NoReturn:
        """There is no target column."""
        raise AssertionError(values)

    def targets(self, values: Sequence[Any], ids: Sequence[str] | None = None) -> NoReturn:
        """There is no target column."""
        raise AssertionError((values, ids))

    def build_head(self, in_features: int) -> CausalLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without parameters of its own."""
        del in_features
        return CausalLmHead()

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch,); its mean is the mean over the tokens of the batch."""
        del target
        return raw[:, 0] / raw[:, 1].mean().clamp(min=1.0)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per token, perplexity, and bits per byte of the text, which does not depend on the tokenizer."""
        nll, tokens = raw.double().sum(dim=0).tolist()
        loss = nll / max(tokens, 1.0)
        values = {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
        size = float(target.double().sum())
        return values | ({"bits_per_byte": nll / math.log(2) / size} if size else {})

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss per token of each row."""
        del target
        return raw[:, 0] / raw[:, 1].clamp(min=1.0)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """Loss per token of each row."""
        return {self.name: self.errors(raw, raw[:, 0]).tolist()}

    def describe(self) -> dict[str, Any]:
        """Type and input."""
        return {"type": "causal_lm", "input": self.config.input}
