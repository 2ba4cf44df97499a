"""Rows of big_bird and bigbird_pegasus: texts of 24 tokens are long for their blocks."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.bart_like import BART
from tests.parity.cases.base import Case, bertish, segments

BLOCKS: dict[str, Any] = {"block_size": 2, "num_random_blocks": 2}
BIG_BIRD = bertish(**BLOCKS, sep_token_id=5)
FULL: dict[str, Any] = {"attention_type": "original_full"}

CASES = [
    # the reference has no head masks between blocks
    Case("big_bird", BIG_BIRD, segments, head_mask=False),
    Case(
        "big_bird@one_random_block",
        {**BIG_BIRD, "block_size": 3, "num_random_blocks": 1, "use_bias": False, "rescale_embeddings": True},
        head_mask=False,
    ),
    Case("big_bird@short_texts", {**BIG_BIRD, "block_size": 3}, segments),
    Case("big_bird@full", {**BIG_BIRD, **FULL, "hidden_act": "relu"}, segments),
    Case("bigbird_pegasus", {**BART, **BLOCKS}, head_mask=False),
    Case("bigbird_pegasus@full", {**BART, **FULL, "use_bias": True, "scale_embedding": False}),
]
