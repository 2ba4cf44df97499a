"""Options of nystromformer, and what mra and yoso share with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import ACTIVATIONS, option, size


@dataclass(frozen=True, kw_only=True)
class ApproximateEncoderConfig(EncoderConfig):
    """Options of all of them."""

    vocab_size: int = size(50265, "number of tokens in the vocabulary")
    pad_token_id: int | None = option(1, "id of the padding token")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")


@dataclass(frozen=True, kw_only=True)
class NystromformerConfig(ApproximateEncoderConfig):
    """Options of nystromformer."""

    model_type: ClassVar[str] = "nystromformer"

    vocab_size: int = size(30000, "number of tokens in the vocabulary")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(510, "the longest text in tokens; the position table has two rows more")
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    segment_means_seq_len: int = size(
        64,
        "a text of this many tokens has num_landmarks landmarks, each the mean of equally many; a shorter one has "
        "fewer of them, in a longer one they are means of more tokens. Equal to num_landmarks: dense attention",
    )
    num_landmarks: int = size(64, "landmarks of a text at most; they divide segment_means_seq_len")
    conv_kernel_size: int | None = size(
        65, "tokens that the convolution of values reaches over, an odd number; null for no convolution"
    )
    inv_coeff_init_option: bool = option(
        False,
        "the iteration for the pseudo-inverse starts from each matrix's own scale; else, as published weights were "
        "trained, from one scale of the whole batch, so that texts of a batch influence each other slightly",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.segment_means_seq_len % self.num_landmarks:
            yield (
                "num_landmarks",
                f"{self.num_landmarks} does not divide segment_means_seq_len {self.segment_means_seq_len}",
            )
        if self.conv_kernel_size is not None and self.conv_kernel_size % 2 == 0:
            yield (
                "conv_kernel_size",
                f"{self.conv_kernel_size} is even: the convolution has as many tokens on each side",
            )


@dataclass(frozen=True, kw_only=True)
class TableOfPositionsConfig(ApproximateEncoderConfig):
    """Options of those that name the kind of their positions."""

    type_vocab_size: int = size(1, "number of segment types (token_type_ids)")
    position_embedding_type: str = option(
        "absolute",
        "positions are a learned table; distances would need the scores of all pairs of tokens, which are not computed",
        choices=("absolute",),
    )
