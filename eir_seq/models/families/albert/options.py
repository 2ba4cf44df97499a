"""Options of albert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig, WithPositionKinds
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class AlbertConfig(WithPositionKinds, EncoderConfig):
    """Options of albert."""

    model_type: ClassVar[str] = "albert"

    vocab_size: int = size(30000, "number of tokens in the vocabulary")
    embedding_size: int = size(128, "width of the tables of tokens, positions and segments, which are projected")
    hidden_size: int = size(4096, "width of the token states")
    num_hidden_layers: int = layers(12, "number of times that a group of layers runs")
    num_hidden_groups: int = size(1, "groups of layers; the runs are shared out among them, one after the other")
    inner_group_num: int = size(1, "layers in a group")
    num_attention_heads: int = size(64, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(16384, "inner width of the feed-forward block")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on the output of attention")
    attention_probs_dropout_prob: float = rate(0.0, "dropout on attention weights")
    classifier_dropout_prob: float = rate(0.1, "dropout of the classification heads")
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(3, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.num_hidden_groups > self.num_hidden_layers:
            yield (
                "num_hidden_groups",
                f"{self.num_hidden_groups} groups cannot share {self.num_hidden_layers} runs (num_hidden_layers)",
            )
