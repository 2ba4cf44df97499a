"""Options of xlm-roberta-xl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig
from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import layers, option, size


@dataclass(frozen=True, kw_only=True)
class XLMRobertaXLConfig(CountedPositions, BertConfig):
    """Options of xlm-roberta-xl: roberta's, with the sizes of 3.5 billion parameters as defaults."""

    model_type: ClassVar[str] = "xlm-roberta-xl"

    vocab_size: int = size(250880, "number of tokens in the vocabulary")
    hidden_size: int = size(2560, "width of the token states")
    num_hidden_layers: int = layers(36, "number of layers")
    num_attention_heads: int = size(32, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(10240, "inner width of the feed-forward block")
    max_position_embeddings: int = size(
        514, "rows of the position table; a text has at most this many tokens less pad_token_id + 1"
    )
    type_vocab_size: int = size(1, "number of segment types (token_type_ids)")
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
