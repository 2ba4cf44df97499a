"""Splinter (https://arxiv.org/abs/2101.00438)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Same
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_initialization, bert_plan
from eir_seq.models.families.splinter.options import SplinterConfig
from eir_seq.models.heads.base import Head, Targets
from eir_seq.models.heads.spans_and_tokens import span_loss
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.output import ModelOutput


def splinter_plan(c: SplinterConfig) -> StackPlan:
    """Bert without a pooler."""
    return bert_plan(c, pooler=False)


class _Side(nn.Module):
    """How well each token begins (or ends) the answer to each question."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.question, self.token = Linear(size, size), Linear(size, size)
        self.question_norm, self.token_norm = LayerNorm(size), LayerNorm(size)
        self.match = Linear(size, size, bias=False)

    def forward(self, questions: Tensor, tokens: Tensor) -> Tensor:
        query = self.match(self.question_norm(F.gelu(self.question(questions))))
        scores: Tensor = query @ self.token_norm(F.gelu(self.token(tokens))).transpose(1, 2)
        return scores


class QuestionAwareSpans(Head):
    """The state of a question's token selects start and end of the answer (section 4)."""

    targets = ("start_positions", "end_positions")
    inputs = ("question_positions",)

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`question_id`: the token that stands for a question.

        `many`: a text has several questions (pretraining), and place `padding_id` stands for none of them.
        """

        hidden_size: int
        question_id: int
        many: bool
        padding_id: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.start, self.end = _Side(config.hidden_size), _Side(config.hidden_size)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`start_logits`, `end_logits`: (batch, questions, length), the least possible number at padding.

        Without `question_positions` (batch, questions), questions are looked for in the ids: all of them (`many`), or
        the first one, for logits of (batch, length).

        Raises:
            ValueError: neither `question_positions` nor ids, for several questions.
        """
        states: Tensor = output.last_hidden_state
        places = inputs.get("question_positions")
        one = places is None and not self.config.many
        if places is None:
            places = self._places(inputs.get("input_ids"), states)
        questions = states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
        found = {"start_logits": self.start(questions, states), "end_logits": self.end(questions, states)}
        if (mask := inputs.get("attention_mask")) is not None:
            padding = ~mask.bool()[:, None]
            found = {name: x.masked_fill(padding, torch.finfo(x.dtype).min) for name, x in found.items()}
        return {name: x.squeeze(1) for name, x in found.items()} if one else found

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Mean of the two cross-entropies; of several questions, those with the place `padding_id` are left out."""
        if not self.config.many:
            start, end = (predictions[name].flatten(0, -2) for name in ("start_logits", "end_logits"))
            return span_loss(start, end, targets)
        if any(name not in targets for name in self.targets):
            return None
        losses = []
        for side in ("start", "end"):
            logits = predictions[f"{side}_logits"]
            places = targets[f"{side}_positions"].clamp(0, max(0, logits.shape[-1] - 1))
            losses.append(F.cross_entropy(logits.flatten(0, 1), places.flatten(), ignore_index=self.config.padding_id))
        return (losses[0] + losses[1]) / 2

    def _places(self, ids: Tensor | None, states: Tensor) -> Tensor:
        """(batch, questions) places of question tokens; place 0 for the only question if ids are not given."""
        if ids is None:
            if self.config.many:
                raise ValueError("give question_positions with inputs_embeds: questions are known by their ids")
            return torch.zeros(len(states), 1, dtype=torch.long, device=states.device)
        is_question = ids == self.config.question_id
        if not self.config.many:
            return is_question.long().argmax(-1, keepdim=True)
        count = int(is_question.sum(1).max())
        rows, places = is_question.nonzero(as_tuple=True)
        found = torch.full((len(ids), count), self.config.padding_id, dtype=torch.long, device=ids.device)
        found[rows, is_question.long().cumsum(1)[rows, places] - 1] = places
        return found


def _head(suffix: str, *, many: bool) -> TaskHead:
    def config(c: SplinterConfig) -> QuestionAwareSpans.Config:
        return QuestionAwareSpans.Config(
            hidden_size=c.hidden_size, question_id=c.question_token_id, many=many, padding_id=c.pad_token_id or 0
        )

    rows = []
    for side in ("start", "end"):
        for published, native in ((f"query_{side}", "question"), (side, "token")):
            rows.append(Same(f"splinter_qass.{published}_transform.dense", f"{side}.{native}"))
            rows.append(Same(f"splinter_qass.{published}_transform.LayerNorm", f"{side}.{native}_norm"))
        rows.append(Same(f"splinter_qass.{side}_classifier", f"{side}.match"))
    return TaskHead(suffix, config, tuple(rows))


SPLINTER = Architecture(
    tasks=declare_tasks(
        "Splinter",
        "splinter",
        splinter_plan,
        bert_rows,
        {
            "pretraining": _head("ForPreTraining", many=True),
            "question-answering": _head("ForQuestionAnswering", many=False),
        },
    ),
    prefixes=("splinter",),
    initialization=bert_initialization,
)
