"""Transformers' inputs of all architectures, as the signature of a model's forward."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, TypeVar

Forward = TypeVar("Forward", bound=Callable[..., Any])

INPUTS = (
    "token_type_ids", "position_ids", "inputs_embeds", "head_mask", "cross_attn_head_mask",
    "encoder_hidden_states", "encoder_attention_mask",
    "decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds", "decoder_position_ids", "decoder_head_mask",
    "encoder_outputs", "use_cache", "cache_params", "state", "mems", "use_mems",
    "output_hidden_states", "output_attentions", "output_router_logits", "logits_to_keep",
    "langs", "lengths", "perm_mask", "target_mapping", "input_mask", "global_attention_mask", "num_hashes",
    "task_type_ids", "bbox", "xpath_tags_seq", "xpath_subs_seq", "input_shape_ids", "input_pronunciation_ids",
    "entity_ids", "entity_attention_mask", "entity_token_type_ids", "entity_position_ids",
    "entity_start_positions", "entity_end_positions", "region_to_phrase_position",
    "visual_embeds", "visual_attention_mask", "visual_token_type_ids", "image_text_alignment",
    "pixel_values", "interpolate_pos_encoding",
    "question_lengths", "question_positions", "cls_index", "p_mask", "mc_token_ids",
    "labels", "start_positions", "end_positions", "is_impossible", "next_sentence_label", "sentence_order_label",
    "mc_labels", "entity_labels", "sentence_image_labels",
    "labels_input_ids", "labels_input_shape_ids", "labels_input_pronunciation_ids", "labels_attention_mask",
    "labels_token_type_ids", "attack_input_ids", "attack_input_shape_ids", "attack_input_pronunciation_ids",
    "attack_attention_mask", "attack_token_type_ids",
)  # fmt: skip
"""All that an architecture, a head or a backbone takes besides `input_ids` and `attention_mask`."""


def lists_inputs(forward: Forward) -> Forward:
    """A forward that takes `**inputs`, with all of transformers by name in its signature.

    Readers and tools (`help`, `torch.export` with dynamic shapes) find the names there; which of them a model takes is
    for its parts to say.
    """
    signature = inspect.signature(forward)
    *named, others = signature.parameters.values()
    assert others.kind is Parameter.VAR_KEYWORD
    listed = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Any) for name in INPUTS]
    forward.__signature__ = signature.replace(parameters=[*named, *listed, others])  # type: ignore[attr-defined]
    return forward
