"""Options of yoso."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.nystromformer.options import TableOfPositionsConfig
from eir_seq.models.options import option, rate, size


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
