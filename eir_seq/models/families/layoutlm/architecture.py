"""Layoutlm (https://arxiv.org/abs/1912.13318)."""

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
from eir_seq.models.families.layoutlm.options import LayoutLMConfig
from eir_seq.models.layers.build import Configured


class BoxEmbedding(Configured):
    """Vectors of the edges, the height and the width of each token's box on its page (section 2.2)."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """`count`: rows of each table."""

        count: int

        features: ClassVar = ("bbox",)

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.x, self.y, self.height, self.width = (nn.Embedding(config.count, size) for _ in range(4))

    def forward(self, features: dict[str, Tensor], positions: Tensor) -> Tensor:
        """`bbox`: (..., 4) left, top, right and bottom edge, all zero where left out -> (..., size).

        Raises:
            ValueError: a box is turned around or beyond the tables.
        """
        bbox = features.get("bbox")
        if bbox is None:
            bbox = positions.new_zeros((*positions.shape, 4))
        elif not torch.compiler.is_compiling():
            check_boxes(bbox, self.x.num_embeddings)
        left, top, right, bottom = bbox.unbind(-1)
        edges: Tensor = self.x(left) + self.y(top) + self.x(right) + self.y(bottom)
        return edges + self.height(bottom - top) + self.width(right - left)


def check_boxes(bbox: Tensor, count: int) -> None:
    """Raises ValueError where a box (..., 4) is none, or has a coordinate outside 0 ... count - 1."""
    if bool(((bbox < 0) | (bbox >= count)).any()):
        raise ValueError(f"bbox: coordinates must lie in 0 ... {count - 1}, these reach {int(bbox.max())}")
    if bool((bbox[..., 2:] < bbox[..., :2]).any()):
        raise ValueError("bbox: a box has its right edge left of its left one, or its bottom above its top")


def layoutlm_plan(c: LayoutLMConfig, *, pooler: bool = True) -> StackPlan:  # noqa: ARG001
    """Bert with boxes; every published class has the pooler."""
    return bert_plan(c, further=BoxEmbedding.Config(c.max_2d_position_embeddings))


def layoutlm_rows(c: LayoutLMConfig) -> Iterator[Row]:
    """Bert's key map and the tables of coordinates."""
    for published, native in (("x", "x"), ("y", "y"), ("h", "height"), ("w", "width")):
        yield Same(f"embeddings.{published}_position_embeddings", f"embeddings.further.{native}")
    yield from bert_rows(c)


LAYOUTLM = bert_like(
    "LayoutLM",
    "layoutlm",
    layoutlm_plan,
    layoutlm_rows,
    own=dict.fromkeys(("causal-lm", "next-sentence", "pretraining", "multiple-choice")),
)
