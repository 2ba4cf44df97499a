"""Options of m2m_100."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.options import ACTIVATIONS, option, rate, size


@dataclass(frozen=True, kw_only=True)
class M2M100Config(LikeBart):
    """Options of m2m_100."""

    model_type: ClassVar[str] = "m2m_100"

    vocab_size: int = size(128112, "number of tokens in the vocabulary")
    encoder_layerdrop: float = rate(0.05, "probability of skipping an encoder layer in training (LayerDrop)")
    decoder_layerdrop: float = rate(0.05, "probability of skipping a decoder layer in training (LayerDrop)")
    activation_function: str = option("relu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    classifier_dropout: float = rate(0.0, "kept for published files: this architecture has no classification head")
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")
    add_cross_attention: bool = option(True, "the decoder attends to the encoder's states", choices=(True,))
    decoder_start_token_id: int = option(
        2, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(  # type: ignore[assignment]
        2, "id of the token that ends a text, or several of them"
    )
    forced_bos_token_id: int | None = option(
        None, "first generated id after decoder_start_token_id: that of the target language"
    )
    forced_eos_token_id: int | None = option(
        None, "id that a generated text ends with where its greatest length is reached"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model < 4:
            yield "d_model", f"{self.d_model} is too narrow: sinusoidal positions need two frequencies, so 4 channels"
