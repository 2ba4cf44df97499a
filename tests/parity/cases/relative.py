"""Rows of encoders that tell positions by rotation, by distance, or by both."""

from __future__ import annotations

from tests.parity.cases.base import ROBERTA_IDS, Case, bertish, segments

CASES = [
    Case("roformer", bertish(embedding_size=16), segments),
    Case("roformer@rotary_value", bertish(rotary_value=True), segments),
    Case("roformer@decoder", bertish(is_decoder=True), segments),
    Case("mpnet", bertish(relative_attention_num_buckets=32, **ROBERTA_IDS)),
]
