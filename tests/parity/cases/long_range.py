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
PEGASUS_X: dict[str, Any] = {**BART, "num_global_tokens": 3, "block_size": 8, "pad_token_id": 0, "eos_token_id": 1}


def plain_states(model: Any) -> None:
    """The reference's last state of the encoder comes with that of its global tokens."""
    for encoder in (part for part in model.modules() if type(part).__name__ == "PegasusXEncoder"):
        encoder.register_forward_hook(_without_globals)


def _without_globals(encoder: Any, inputs: Any, output: Any) -> None:
    if output.hidden_states is not None:
        output.hidden_states = (*output.hidden_states[:-1], output.hidden_states[-1][0])


CASES = [
    Case("led", LED, some_global),
    Case("led@windows", {**LED, **OTHER, "attention_window": [4, 8, 16]}, some_global),
    Case("led@no_global", {**LED, "attention_window": 6}, dead=GLOBAL_PROJECTIONS),
    # their encoder multiplies a wrong axis with a head mask, and returns weights of its blocks: test_long_range.py
    Case("longt5", LONGT5, attends=False),
    Case("longt5@local", LOCAL, attends=False),
    Case("longt5@few_sums", {**LONGT5, "global_block_size": 16}, attends=False),
    # the reference's encoder takes no head mask, and returns weights of its blocks: see test_long_range.py
    Case("pegasus_x", PEGASUS_X, attends=False, mend=plain_states),
    Case(
        "pegasus_x@unstaggered",
        {**PEGASUS_X, **OTHER, "block_size": 6, "stagger_local_blocks": False, "scale_embedding": False},
        attends=False,
        mend=plain_states,
    ),
]
