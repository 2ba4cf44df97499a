"""Ernie (https://arxiv.org/abs/1904.09223)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.ernie.options import ErnieConfig
from eir_seq.models.layers.build import Configured


class TaskTypes(Configured):
    """A vector per type of task; the first where none is given."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """`count`: number of types."""

        count: int

        features: ClassVar = ("task_type_ids",)

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.count, size)

    def forward(self, features: dict[str, Tensor], positions: Tensor) -> Tensor:
        """`task_type_ids` (...) -> (..., size)."""
        given = features.get("task_type_ids")
        vectors: Tensor = self.table(torch.zeros_like(positions) if given is None else given)
        return vectors


def ernie_plan(c: ErnieConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with task types."""
    return bert_plan(c, pooler=pooler, further=TaskTypes.Config(c.task_type_vocab_size) if c.use_task_id else None)


def ernie_rows(c: ErnieConfig) -> Iterator[Row]:
    """Bert's key map and the task types."""
    yield from bert_rows(c)
    yield Same("embeddings.task_type_embeddings", "embeddings.further.table")


ERNIE = bert_like("Ernie", "ernie", ernie_plan, ernie_rows)
