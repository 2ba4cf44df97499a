"""Rows of encoder-decoders that read long texts."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.bart_like import BART, OTHER
from tests.parity.cases.base import GLOBAL_PROJECTIONS, Case, some_global

LED: dict[str, Any] = {
    **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 48,
    "attention_window": 8,
}

CASES = [
    Case("led", LED, some_global),
    Case("led@windows", {**LED, **OTHER, "attention_window": [4, 8, 16]}, some_global),
    Case("led@no_global", {**LED, "attention_window": 6}, dead=GLOBAL_PROJECTIONS),
]
