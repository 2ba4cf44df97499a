"""Options of encoders that are bert but for the way in which they approximate attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.bert import EncoderConfig
from eir_seq.models.options import ACTIVATIONS, option, rate, size


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
        "a text of so many tokens has num_landmarks landmarks, each the mean of equally many tokens; a shorter one has "
        "fewer of them, in a longer one they are means of more tokens. Equal to num_landmarks: dense attention",
    )
    num_landmarks: int = size(64, "landmarks of a text at most; they divide segment_means_seq_len")
    conv_kernel_size: int | None = size(
        65, "tokens that the convolution of values reaches over, an odd number; null for no convolution"
    )
    inv_coeff_init_option: bool = option(
        False,
        "the iteration for the pseudo-inverse starts from each matrix's own scale; else, as published weights were "
        "trained, from one scale of the whole batch, which lets texts of a batch touch each other a little",
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


@dataclass(frozen=True, kw_only=True)
class YosoConfig(TableOfPositionsConfig):
    """Options of yoso."""

    model_type: ClassVar[str] = "yoso"

    max_position_embeddings: int = size(4096, "the longest text in tokens; the position table has two rows more")
    attention_probs_dropout_prob: float = rate(
        0.1, "dropout on attention weights; only with use_expectation, as estimated weights are never seen one by one"
    )
    use_expectation: bool = option(
        True, "weights are the expected ones, in quadratic time; else hashes estimate them, in linear time"
    )
    hash_code_len: int = option(9, "planes per hash: two to this power buckets", minimum=1, maximum=16)
    num_hash: int = size(64, "hashes that estimate a weight (without use_expectation)")
    conv_window: int | None = size(
        None, "tokens that a convolution of values reaches over, an odd number; null for no convolution"
    )
    use_fast_hash: bool = option(
        True, "planes are those of fast random rotations; else they are independent (without use_expectation)"
    )
    lsh_backward: bool = option(
        True, "gradients are estimated by hashes; else expected, in quadratic time (without use_expectation)"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.conv_window is not None and self.conv_window % 2 == 0:
            yield "conv_window", f"{self.conv_window} is even: the convolution has as many tokens on each side"


BLOCK = 32
"""Tokens per block of mra."""


@dataclass(frozen=True, kw_only=True)
class MraConfig(TableOfPositionsConfig):
    """Options of mra."""

    model_type: ClassVar[str] = "mra"

    max_position_embeddings: int = option(
        512, "the longest text in tokens, at least a block of 32; the position table has two rows more", minimum=BLOCK
    )
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    block_per_row: int = size(
        4,
        "pairs of blocks that are computed token by token, per block of the longest text; shorter texts have as many "
        "in all, so that they may be exact",
    )
    approx_mode: str = option(
        "full",
        "other pairs of blocks count with their mean scores (full) or not at all (sparse)",
        choices=("full", "sparse"),
    )
    initial_prior_first_n_blocks: int = option(
        0, "blocks at the begin of a text whose pairs are computed token by token before all others", minimum=0
    )
    initial_prior_diagonal_n_blocks: int = option(
        0,
        "width of the band of pairs around a block's own that is computed token by token before others; an even width "
        "counts as the next one, as the band has a middle",
        minimum=0,
    )

    def fine_pairs(self) -> int:
        """Pairs of blocks per text and head that are computed token by token."""
        rows = self.max_position_embeddings // BLOCK
        return min(rows * self.block_per_row, rows**2)
