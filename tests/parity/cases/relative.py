"""Rows of encoders that tell positions by rotation, by distance, or by both; and of squeezebert."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import ROBERTA_IDS, Case, bertish, segments

RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
BUCKETS = {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
LATER_NAMES = {"legacy": False, "tie_word_embeddings": False}  # the oracle's head of those names breaks when tied
NO_HEAD_MASK: dict[str, Any] = {"head_mask": False}
GROUPS = {
    "q_groups": 2,
    "k_groups": 4,
    "v_groups": 2,
    "post_attention_groups": 1,
    "intermediate_groups": 2,
    "output_groups": 4,
}

CASES = [
    Case("deberta", bertish(**RELATIVE, max_relative_positions=10, position_biased_input=False), **NO_HEAD_MASK),
    Case("deberta@plain", bertish(type_vocab_size=2), segments),
    Case("deberta@talking_head", bertish(**RELATIVE, talking_head=True)),
    Case("deberta@queries", bertish(relative_attention=True, pos_att_type="c2p", **LATER_NAMES)),
    Case(
        "deberta-v2",
        bertish(**RELATIVE, **BUCKETS, max_relative_positions=-1, conv_kernel_size=3, conv_act="gelu"),
        **NO_HEAD_MASK,
    ),
    Case("deberta-v2@plain", bertish(**RELATIVE, position_biased_input=False, type_vocab_size=2), segments),
    Case(
        "deberta-v2@keys", bertish(relative_attention=True, pos_att_type="p2c", max_relative_positions=7, **LATER_NAMES)
    ),
    Case("deberta-v2@wide_convolution", bertish(conv_kernel_size=5, conv_groups=4, attention_head_size=8)),
    Case("roformer", bertish(embedding_size=16), segments),
    Case("roformer@rotary_value", bertish(rotary_value=True), segments),
    Case("roformer@decoder", bertish(is_decoder=True), segments),
    Case("squeezebert", bertish(embedding_size=32, **GROUPS), segments, **NO_HEAD_MASK),
    Case("mpnet", bertish(relative_attention_num_buckets=32, **ROBERTA_IDS)),
]
