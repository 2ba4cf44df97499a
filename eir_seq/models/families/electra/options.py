"""Options of electra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig
from eir_seq.models.options import ACTIVATIONS, option, rate, size


@dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertConfig):
    """Options of electra: bert's, the width of the embedding tables, and how a choice is summed up."""

    model_type: ClassVar[str] = "electra"

    embedding_size: int = size(
        128, "width of the tables of tokens, positions and segments; projected if not hidden_size"
    )
    hidden_size: int = size(256, "width of the token states")
    num_attention_heads: int = size(4, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(1024, "inner width of the feed-forward block")
    summary_type: str = option(
        "first",
        "which token state the multiple-choice head reads: the first, the last place, the mean over all places, or "
        "the place of the classification token (cls_index), which is the last one",
        choices=("first", "last", "mean", "cls_index"),
    )
    summary_use_proj: bool = option(True, "the multiple-choice head projects that state")
    summary_activation: str | None = option(
        "gelu", "activation after that projection, null for none", choices=ACTIVATIONS
    )
    summary_last_dropout: float = rate(0.1, "dropout after that activation")
