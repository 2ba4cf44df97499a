"""Spans that answer a question, searched: the end is scored given the begin (xlm, xlnet)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import Head, Targets
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.output import ModelOutput


class AnswerSearch(Head):
    """Scores of begins; for each begin scores of ends; and one score that there is no answer.

    With `start_positions` the ends are scored given those, else given the best begins.
    """

    targets = ("start_positions", "end_positions", "is_impossible")
    inputs = ("start_positions", "cls_index", "p_mask")
    reads_padding = True

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`begins`: how many are followed; `ends`: how many each gives; `eps`: of the norm in their scoring."""

        hidden_size: int
        begins: int
        ends: int
        eps: float

        @classmethod
        def of(cls, c: Any) -> Self:
            """By the options that all architectures with this head have."""
            return cls(hidden_size=c.width, begins=c.start_n_top, ends=c.end_n_top, eps=c.layer_norm_eps)

    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.begin = Linear(size, 1)
        self.end_dense, self.end_norm, self.end = (
            Linear(2 * size, size),
            LayerNorm(size, eps=config.eps),
            Linear(size, 1),
        )
        self.none_dense, self.none = Linear(2 * size, size), Linear(size, 1, bias=False)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Predictions for texts of (batch, length) tokens.

        `p_mask` (batch, length) is nonzero at tokens that are in no answer; `cls_index` (batch,) is the place that
        tells whether there is an answer, by default the last.

        Given `start_positions`: `start_logits`, `end_logits` (batch, length), `cls_logits` (batch,).
        Else `start_top_log_probs`, `start_top_index` (batch, begins), `end_top_log_probs`, `end_top_index`
        (batch, begins * ends), `cls_logits` (batch,); the published names notwithstanding, these are probabilities.
        """
        x: Tensor = output.last_hidden_state
        masked: Tensor | None = None if (given := inputs.get("p_mask")) is None else given != 0
        begins = _without(self.begin(x).squeeze(-1), masked)
        starts: Tensor | None = inputs.get("start_positions")
        place: Tensor | None = inputs.get("cls_index")
        summary = x[:, -1] if place is None else _at(x, place.view(-1))
        if starts is not None:
            first = _at(x, starts.view(-1))
            ends = self._ends(x, first[:, None].expand_as(x), masked)
            return {"start_logits": begins, "end_logits": ends, "cls_logits": self._unanswerable(first, summary)}
        probabilities = begins.softmax(-1)
        best, best_places = probabilities.topk(self.config.begins, -1)
        firsts = x.gather(1, best_places[..., None].expand(-1, -1, x.shape[-1]))
        pairs = x[:, :, None].expand(-1, -1, self.config.begins, -1)
        ends = self._ends(pairs, firsts[:, None].expand_as(pairs), None if masked is None else masked[..., None])
        end_best, end_places = ends.softmax(1).topk(self.config.ends, 1)
        return {
            "start_top_log_probs": best,
            "start_top_index": best_places,
            "end_top_log_probs": end_best.flatten(1),
            "end_top_index": end_places.flatten(1),
            "cls_logits": self._unanswerable((probabilities[..., None] * x).sum(1), summary),
        }

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Mean of both cross-entropies, plus half of that of `is_impossible` (batch,) where it is given."""
        if "start_positions" not in targets or "end_positions" not in targets:
            return None
        start = F.cross_entropy(predictions["start_logits"], targets["start_positions"].view(-1))
        end = F.cross_entropy(predictions["end_logits"], targets["end_positions"].view(-1))
        loss = (start + end) / 2
        if "is_impossible" in targets:
            logits = predictions["cls_logits"]
            wrong = targets["is_impossible"].view(-1).to(logits.dtype)
            loss = loss + F.binary_cross_entropy_with_logits(logits, wrong) / 2
        return loss

    def _ends(self, x: Tensor, first: Tensor, masked: Tensor | None) -> Tensor:
        """States (..., hidden) and those of their begins -> (...)."""
        hidden = self.end_norm(torch.tanh(self.end_dense(torch.cat((x, first), -1))))
        return _without(self.end(hidden).squeeze(-1), masked)

    def _unanswerable(self, first: Tensor, summary: Tensor) -> Tensor:
        """(batch, hidden) each -> (batch,)."""
        scores: Tensor = self.none(torch.tanh(self.none_dense(torch.cat((first, summary), -1)))).squeeze(-1)
        return scores


def _at(x: Tensor, places: Tensor) -> Tensor:
    """(batch, length, hidden), (batch,) -> (batch, hidden)."""
    return x[torch.arange(x.shape[0], device=x.device), places]


def _without(scores: Tensor, masked: Tensor | None) -> Tensor:
    return scores if masked is None else scores.masked_fill(masked, max(-1e30, torch.finfo(scores.dtype).min))
