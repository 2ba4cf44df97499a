"""Rows of encoders that tell positions by rotation, by distance, or by both; of squeezebert and xlnet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.cases.base import ROBERTA_IDS, VOCABULARY, Case, Inputs, bertish, segments

RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
BUCKETS = {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
LATER_NAMES = {"legacy": False, "tie_word_embeddings": False}  # the reference's head of those names breaks when tied
NO_HEAD_MASK: dict[str, Any] = {"head_mask": False}
GROUPS = {
    "q_groups": 2,
    "k_groups": 4,
    "v_groups": 2,
    "post_attention_groups": 1,
    "intermediate_groups": 2,
    "output_groups": 4,
}
XLNET: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "n_layer": 2,
    "n_head": 4,
    "d_inner": 48,
    "pad_token_id": 5,
    "mem_len": None,
}
UNREACHED = r"embeddings\.hidden$"  # the first state of tokens to be predicted, see test_two_streams.py


def answers(inputs: Inputs, places: Tensor) -> Inputs:
    """A begin and an end in each text, one of which has no answer; the first tokens are in none."""
    barred = torch.zeros(places.shape)
    barred[:, :2] = 1.0
    return {
        "start_positions": torch.tensor([3, 2, 2]),
        "end_positions": torch.tensor([6, 4, 3]),
        "is_impossible": torch.tensor([0.0, 1.0, 0.0]),
        "cls_index": places.sum(1) - 1,
        "p_mask": barred,
    }


STREAMS: dict[str, Any] = {"extra": segments, "dead": UNREACHED, "targets": {"answer-search": answers}}

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
    Case("xlnet", XLNET, **STREAMS),
    Case("xlnet@kept", {**XLNET, "mem_len": 10, "clamp_len": 8, "summary_type": "mean"}, **STREAMS),
    Case("xlnet@other_summary", {**XLNET, "summary_type": "first", "summary_use_proj": False}, **STREAMS),
    Case("mpnet", bertish(relative_attention_num_buckets=32, **ROBERTA_IDS)),
    Case("mpnet@other_padding", bertish(pad_token_id=0, bos_token_id=1, eos_token_id=2)),
]
