"""Direct preference optimization: the chosen answer is to become more likely than the rejected one.

The reward of an answer is beta times what its log-likelihood gained since the start of training (Rafailov et al. 2023,
https://arxiv.org/abs/2305.18290).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import row_sums, token_nll
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import FittedOutput, Output, TargetRows
from eir_seq.outputs.generation.answers import Answering, answering, true_answers
from eir_seq.outputs.preference.config import PreferenceOutputConfig

CHOSEN, REJECTED, CHOSEN_START, REJECTED_START, CHOSEN_TOKENS, REJECTED_TOKENS, KNOWN = range(7)
"""Last axis of raw outputs: log-likelihoods (nats) of both answers, by the model and by that of the start; their
tokens; 1 where there is a model of the start."""


class PreferenceState(Strict):
    """The state of the output: its config, with the input that it reads."""

    type: Literal["preference"] = "preference"
    name: str
    config: PreferenceOutputConfig


class PreferenceHead(nn.Module):
    """Scores both answers of each row by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """(rows, 7), see `CHOSEN`; a row is two texts, with the chosen answer and with the rejected one."""
        head: Any = tokens.head
        labels = tokens.inputs["labels"][:, 1:]
        predicted = tokens.mask[:, 1:] & (labels >= 0)
        scores = -row_sums(
            token_nll(
                tokens.states[:, :-1][predicted], labels[predicted], head.scores, factors=head.factors, alike=False
            ),
            predicted,
        )
        start = tokens.inputs.get("reference")
        known = torch.full_like(scores, float(start is not None))
        start = torch.zeros_like(scores) if start is None else start.to(scores.dtype)
        columns = (scores, start, predicted.sum(dim=1).to(scores.dtype), known)
        return torch.cat([column.reshape(-1, 2) for column in columns], dim=1)[:, : KNOWN + 1]


class FittedPreference(FittedOutput):
    """An output of preferences. Raw outputs are those of `PreferenceHead`; targets are zeros, (rows,)."""

    config: PreferenceOutputConfig
    backbone_task = "causal-lm"

    @property
    def output_size(self) -> int:
        """Values per row."""
        return KNOWN + 1

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """There is no target column: answers are among the tensors of the input."""
        raise AssertionError((rows, ids))

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the chosen answers."""
        return {name: [text or "" for text in texts] for name, texts in true_answers(self, rows).items()}

    def build_head(self, in_features: int) -> PreferenceHead:
        """Token states to raw outputs; without its own parameters."""
        del in_features
        return PreferenceHead()

    def rewards(self, raw: Tensor) -> Tensor:
        """Of both answers of each row, (rows, 2), single precision: beta times the gain of log-likelihood."""
        x = raw.float()
        gains = x[:, [CHOSEN, REJECTED]] - x[:, [CHOSEN_START, REJECTED_START]]
        if self.config.loss == "ipo":
            gains = gains / x[:, [CHOSEN_TOKENS, REJECTED_TOKENS]].clamp(min=1)
        return self.config.beta * gains

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, (batch, 1).

        sigmoid: -log sigma(margin), with label smoothing the mean over both preferences. ipo: the squared distance of
        the margin per token, over beta, from 1 / (2 beta).
        """
        del target
        chosen, rejected = self.rewards(raw).unbind(dim=1)
        margin, smoothing = chosen - rejected, self.config.label_smoothing
        if self.config.loss == "ipo":
            return ((margin / self.config.beta - 0.5 / self.config.beta) ** 2)[:, None]
        right, wrong = functional.logsigmoid(margin), functional.logsigmoid(-margin)
        return -((1 - smoothing) * right + smoothing * wrong)[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, the share of rows whose chosen answer has the higher reward, mean rewards and their difference.

        Nothing where the model of the start is not known, as after training.
        """
        if not bool(raw[:, KNOWN].all()):
            return {}
        rewards = self.rewards(raw).double()
        chosen, rejected = rewards.mean(dim=0).tolist()
        return {
            "loss": float(self.loss_terms(raw, target).double().mean()),
            "accuracy": float((rewards[:, 0] > rewards[:, 1]).double().mean()),
            "margin": chosen - rejected,
            "chosen_reward": chosen,
            "rejected_reward": rejected,
        }

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each row."""
        return self.loss_terms(raw, target)[:, 0]

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """NAME_margin, the reward of the chosen answer minus that of the other, where both are known."""
        if not bool(raw[:, KNOWN].all()) or not bool((raw[:, REJECTED_TOKENS] > 0).all()):
            return {}
        chosen, rejected = self.rewards(raw).unbind(dim=1)
        return {f"{self.name}_margin": (chosen - rejected).tolist()}

    def decode_beside(self, raw: Tensor) -> dict[str, list[Any]]:
        """As `decode`."""
        return self.decode(raw)

    def text_source(self, network: Any, inputs: Mapping[str, Any]) -> Answering | None:
        """What answers."""
        return answering(self, network, inputs)

    def describe(self) -> dict[str, Any]:
        """Type, input and columns."""
        columns = [self.config.chosen, self.config.rejected]
        return {"type": "preference", "input": self.input, "columns": columns}


class Preference(Output):
    """An output of preferences as declared; there is nothing to fit."""

    STATE = PreferenceState
    FITTED = FittedPreference
    config: PreferenceOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """Both answers."""
        return self.config.chosen, self.config.rejected

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows whose answers are the same: neither can be preferred."""
        chosen, rejected = self.checked_columns
        for row, answers in enumerate(zip(rows[chosen], rows[rejected], strict=True)):
            if answers[0] and answers[0] == answers[1]:
                yield row, f"{rejected!r} is the same answer as {chosen!r}"
