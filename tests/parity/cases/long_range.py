"""Rows of encoder-decoders that read long texts."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.bart_like import BART, OTHER
from tests.parity.cases.base import GLOBAL_PROJECTIONS, T5, Case, some_global

LED: dict[str, Any] = {
    **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 48,
    "attention_window": 8,
}
LONGT5: dict[str, Any] = {**T5, "local_radius": 3, "global_block_size": 4, "encoder_attention_type": "transient-global"}
LOCAL: dict[str, Any] = {**T5, "local_radius": 5, "encoder_attention_type": "local", "feed_forward_proj": "gated-gelu"}

CASES = [
    Case("led", LED, some_global),
    Case("led@windows", {**LED, **OTHER, "attention_window": [4, 8, 16]}, some_global),
    Case("led@no_global", {**LED, "attention_window": 6}, dead=GLOBAL_PROJECTIONS),
    # the oracle's encoder multiplies a wrong axis with a head mask, and returns weights of its blocks: test_longt5.py
    Case("longt5", LONGT5, attends=False),
    Case("longt5@local", LOCAL, attends=False),
    Case("longt5@few_sums", {**LONGT5, "global_block_size": 16}, attends=False),
]
