"""Options of longt5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.t5.options import T5Config
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class LongT5Config(T5Config):
    """Options of longt5: t5 whose encoder's layers see the tokens nearby."""

    model_type: ClassVar[str] = "longt5"
    classifier_dropout: ClassVar[float] = 0.0  # type: ignore[misc]  # no option here: there is no classification head

    local_radius: int = size(127, "tokens that a token of the encoder sees to each side")
    global_block_size: int = size(16, "tokens per block whose sum all tokens see, with transient-global attention")
    encoder_attention_type: str = option(
        "local",
        "what the encoder's layers see: nearby tokens (local), or also the sum of each block of tokens "
        "(transient-global)",
        choices=("local", "transient-global"),
    )

    def summed(self) -> int | None:
        """Tokens per sum, None if nothing is summed."""
        return self.global_block_size if self.encoder_attention_type == "transient-global" else None
