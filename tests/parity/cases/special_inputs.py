"""Rows of encoders with inputs or arithmetic of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.cases.base import LENGTH, VOCABULARY, Case, Inputs, bertish, segments


def boxes(ids: Tensor, generator: torch.Generator) -> Inputs:
    corner = torch.randint(0, 30, (*ids.shape, 2), generator=generator)
    extent = torch.randint(1, 20, (*ids.shape, 2), generator=generator)
    return {"bbox": torch.cat((corner, corner + extent), -1), **segments(ids, generator)}


def xpaths(ids: Tensor, generator: torch.Generator) -> Inputs:
    steps = (*ids.shape, 5)
    return {
        "xpath_tags_seq": torch.randint(0, 20, steps, generator=generator),
        "xpath_subs_seq": torch.randint(0, 20, steps, generator=generator),
    }


XPATHS = {
    "max_xpath_tag_unit_embeddings": 24,
    "max_xpath_subs_unit_embeddings": 26,
    "tag_pad_id": 22,
    "subs_pad_id": 24,
    "xpath_unit_hidden_size": 8,
    "max_depth": 5,
}
IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def four_segments(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {"token_type_ids": torch.randint(0, 4, ids.shape, generator=generator)}


FNET = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "type_vocab_size": 4,
    "tpu_short_seq_length": LENGTH,
}
MOBILEBERT = bertish(embedding_size=16, intra_bottleneck_size=16, num_feedforward_networks=2)
NO_MASK: dict[str, Any] = {"unknown": ("attention_mask",), "attends": False}

CASES = [
    Case("fnet", FNET, four_segments, **NO_MASK),
    Case("fnet@matrices", {**FNET, "use_tpu_fourier_optimizations": True}, four_segments, reopens=False, **NO_MASK),
    Case("ibert", bertish(**IDS)),
    *(
        Case(
            f"ibert@quant_{left}",
            bertish(
                quant_mode=True, force_dequant=left, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **IDS
            ),
            calibrated=True,
            dead=r"norm\.bias$" if left not in ("layernorm", "nonlinear") else "",
        )
        for left in ("none", "gelu", "softmax", "layernorm", "nonlinear")
    ),
    Case("layoutlm", bertish(max_2d_position_embeddings=64), boxes),
    Case("layoutlm@no_boxes", bertish(max_2d_position_embeddings=64), segments),
    Case("markuplm", bertish(**XPATHS, **IDS), xpaths),
    Case("markuplm@no_xpaths", bertish(**XPATHS, **IDS)),
    Case("mobilebert", MOBILEBERT, segments),
    Case(
        "mobilebert@layernorm_nobottleneck",
        {
            **MOBILEBERT,
            "embedding_size": 32,
            "use_bottleneck": False,
            "intra_bottleneck_size": 32,
            "normalization_type": "layer_norm",
            "trigram_input": False,
            "num_feedforward_networks": 4,
        },
        segments,
    ),
    Case("mobilebert@narrow_attention", {**MOBILEBERT, "use_bottleneck_attention": True}, segments, dead="shared"),
    Case(
        "mobilebert@wide_attention",
        {
            **MOBILEBERT,
            "intra_bottleneck_size": 32,
            "key_query_shared_bottleneck": False,
            "num_feedforward_networks": 1,
            "normalization_type": "layer_norm",
            "classifier_activation": False,
            "hidden_act": "gelu",
        },
        segments,
    ),
]
