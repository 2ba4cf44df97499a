"""Options of led."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bart.options import BartConfig
from eir_seq.models.families.longformer.options import Windowed
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class LEDConfig(Windowed, BartConfig):
    """Options of led: bart whose encoder is longformer's."""

    model_type: ClassVar[str] = "led"
    max_positions_option: ClassVar[str | None] = "max_encoder_position_embeddings"
    windowed_layers: ClassVar[str] = "encoder_layers"
    aliases = {
        **BartConfig.aliases,
        "attention_probs_dropout_prob": "attention_dropout",
        "initializer_range": "init_std",
    }
    # bart's options that led has not: each side has its own number of positions, and tokens are never scaled
    max_position_embeddings: ClassVar[None] = None  # type: ignore[misc]
    scale_embedding: ClassVar[bool] = False  # type: ignore[misc]

    max_encoder_position_embeddings: int = size(16384, "the longest text that is read, in tokens")
    max_decoder_position_embeddings: int = size(1024, "the longest text that is written, in tokens")
    num_labels: int = size(2, "number of classes (or values) of a classification head")
    forced_eos_token_id: int | None = option(
        None, "id that a generated text ends with where its greatest length is reached"
    )

    def target_positions(self) -> int:
        return self.max_decoder_position_embeddings
