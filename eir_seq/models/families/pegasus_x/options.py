"""Options of pegasus_x."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bart.options import PegasusConfig
from eir_seq.models.options import layers, option, size


@dataclass(frozen=True, kw_only=True)
class PegasusXConfig(PegasusConfig):
    """Options of pegasus_x."""

    model_type: ClassVar[str] = "pegasus_x"
    aliases = {**PegasusConfig.aliases, "stagger_local_block": "stagger_local_blocks"}

    vocab_size: int = size(96103, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(16384, "the longest text in tokens, on either side")
    encoder_layers: int = layers(16, "layers of the encoder")
    decoder_layers: int = layers(16, "layers of the decoder")
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")
    add_cross_attention: bool = option(True, "the decoder attends to the encoder's states", choices=(True,))
    num_global_tokens: int = size(32, "tokens of no text that all tokens of the encoder see, and that see all")
    block_size: int = size(512, "tokens of a block of the encoder, which see each other")
    stagger_local_blocks: bool = option(True, "every second layer has its blocks half a block further in front")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model < 4:
            yield "d_model", f"{self.d_model} is too narrow: sinusoidal positions need two frequencies, so 4 channels"
        if self.stagger_local_blocks and self.block_size % 2:
            yield "block_size", f"{self.block_size} is odd: staggered blocks need halves"
