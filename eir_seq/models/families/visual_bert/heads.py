"""Predictions about a text and an image (https://arxiv.org/abs/1908.03557)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import Head, Inputs, Targets, token_loss
from eir_seq.models.heads.pretraining import PreTraining
from eir_seq.models.heads.spans_and_tokens import TokenClassification
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput

ALIGNED = "region_to_phrase_position"


class ImagePreTraining(PreTraining):
    """Hidden words, and whether text and image belong together; labels cover text and regions."""

    targets = ("labels", "sentence_image_labels")

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """The sum of both losses, or that of the words alone."""
        if "labels" not in targets:
            return None
        logits, labels = predictions["prediction_logits"], targets["labels"]
        if labels.shape != logits.shape[:2]:
            raise ValueError(f"labels {tuple(labels.shape)} must cover text and regions {tuple(logits.shape[:2])}")
        words = token_loss(logits, labels)
        if "sentence_image_labels" not in targets:
            return words
        return words + self.pairs.label_loss(predictions["seq_relationship_logits"], targets["sentence_image_labels"])


class VisualQuestionAnswering(TokenClassification):
    """Scores of answers (num_labels) from the state of the last word before the separator."""

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, num_labels)."""
        states: Tensor = output.last_hidden_state
        mask = inputs.get("attention_mask")
        if mask is None:
            raise ValueError("this head needs the attention_mask: it finds the end of the question by it")
        last = (mask.sum(1).long() - 2).clamp(min=0)
        return {"logits": self.out(self.dropout(states[torch.arange(states.shape[0], device=states.device), last]))}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Divergence from transformers' labels, a distribution over answers; `logits` then are log-probabilities."""
        if "labels" not in targets:
            return None
        predictions["logits"] = predictions["logits"].log_softmax(-1)
        return F.kl_div(predictions["logits"], targets["labels"], reduction="batchmean")


class RegionAlignment(Head):
    """Scores of every region for chosen places of the text, by a single head of attention."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`unread`: heads of pretraining that published files hold though nothing here reads them."""

        unread: ImagePreTraining.Config
        hidden_size: int
        head_size: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.unread = config.unread.build()
        self.query, self.key = (Linear(config.hidden_size, config.head_size) for _ in range(2))
        self.value = Linear(config.hidden_size, config.head_size)  # published, unread
        self.scale = config.head_size**-0.5

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """The chosen places are for this head only."""
        return {name: x for name, x in inputs.items() if name != ALIGNED}

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, places, regions), lowest at masked regions.

        Raises:
            ValueError: no `region_to_phrase_position` (batch, places), -1 for none, or no `visual_embeds`.
        """
        places, regions = inputs.get(ALIGNED), inputs.get("visual_embeds")
        if places is None or regions is None:
            raise ValueError(f"this head needs {ALIGNED} and visual_embeds")
        states: Tensor = output.last_hidden_state
        rows = torch.arange(states.shape[0], device=states.device)[:, None]
        query, key = self.query(states[rows, places.clamp(min=0)]), self.key(states[:, -regions.shape[1] :])
        scores = query @ key.transpose(-1, -2) * self.scale
        mask = inputs.get("visual_attention_mask")
        if mask is not None:
            scores = scores.masked_fill(~mask.bool()[:, None], torch.finfo(scores.dtype).min)
        return {"logits": scores}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Divergence from distributions over regions (batch, places, regions)."""
        return F.kl_div(logits.log_softmax(-1), labels, reduction="batchmean")
