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


def entities(ids: Tensor, generator: torch.Generator) -> Inputs:
    """Three entities per text with mentions of one to five words, the last of them padding."""
    places = torch.full((len(ids), 3, 5), -1)
    for row in range(len(ids)):
        for entity in range(3):
            length = 1 + (row + entity) % 5
            places[row, entity, :length] = torch.arange(1 + entity, 1 + entity + length)
    mask = torch.ones(len(ids), 3, dtype=torch.long)
    mask[-1, -1] = 0
    return {
        "entity_ids": torch.randint(1, 20, mask.shape, generator=generator) * mask,
        "entity_attention_mask": mask,
        "entity_position_ids": places,
        "entity_token_type_ids": mask,
    }


def of_entity(inputs: Inputs, places: Tensor) -> Inputs:
    return {"labels": torch.tensor([1, 0, 1])}


def of_spans(inputs: Inputs, places: Tensor) -> Inputs:
    spans = torch.tensor([[1, 2, 3], [2, 3, 1], [0, 1, 2]])
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, -100]])
    return {"entity_start_positions": spans, "entity_end_positions": spans + 1, "labels": labels}


def of_words_and_entities(inputs: Inputs, places: Tensor) -> Inputs:
    labels = torch.tensor([[1, 5, -100], [7, -100, 2], [-100, 3, -100]])
    return {"labels": (inputs["input_ids"] + 3).clamp(max=99).masked_fill(~places, -100), "entity_labels": labels}


LUKE: dict[str, Any] = {
    "extra": entities,
    "targets": {
        "masked-lm": of_words_and_entities,
        "entity-classification": of_entity,
        "entity-pair-classification": of_entity,
        "entity-span-classification": of_spans,
    },
}


def regions(ids: Tensor, generator: torch.Generator) -> Inputs:
    """Five regions per text, the last of them padding."""
    mask = torch.ones(len(ids), 5, dtype=torch.long)
    mask[-1, -1] = 0
    return {
        **segments(ids, generator),
        "visual_embeds": torch.randn(len(ids), 5, 20, generator=generator),
        "visual_attention_mask": mask,
        "visual_token_type_ids": mask,
    }


def aligned_regions(ids: Tensor, generator: torch.Generator) -> Inputs:
    words = torch.randint(-1, 9, (len(ids), 6, 3), generator=generator)
    words[0, 0] = -1
    return {**regions(ids, generator), "image_text_alignment": words}


def of_words_and_image(inputs: Inputs, places: Tensor) -> Inputs:
    real = torch.cat((inputs["attention_mask"], inputs["visual_attention_mask"]), 1).bool()
    labels = torch.arange(len(real))[:, None] + torch.arange(real.shape[1])[None] * 3
    return {"labels": labels.masked_fill(~real, -100), "sentence_image_labels": torch.tensor([1, 0, 1])}


def of_answers(inputs: Inputs, places: Tensor) -> Inputs:
    return {"labels": torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.0, 0.1], [0.3, 0.3, 0.4]])}


def of_regions(inputs: Inputs, places: Tensor) -> Inputs:
    chosen = torch.tensor([[1, 3, -1, 2], [0, 2, 4, -1], [3, 1, 1, 0]])
    labels = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0]).expand(3, 4, 5)
    return {"region_to_phrase_position": chosen, "labels": labels}


VISUAL_BERT: dict[str, Any] = {
    "targets": {
        "pretraining": of_words_and_image,
        "visual-question-answering": of_answers,
        "visual-reasoning": of_entity,
        "region-to-phrase-alignment": of_regions,
    },
    "withheld": {"multiple-choice": ("image_text_alignment",)},
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
    Case("luke", bertish(entity_vocab_size=20, entity_emb_size=12, **IDS), **LUKE),
    Case(
        "luke@plain_attention",
        bertish(entity_vocab_size=20, entity_emb_size=32, use_entity_aware_attention=False, **IDS),
        **LUKE,
    ),
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
    Case("visual_bert", bertish(visual_embedding_dim=20, num_labels=3, **IDS), regions, **VISUAL_BERT),
    Case("visual_bert@aligned", bertish(visual_embedding_dim=20, num_labels=3, **IDS), aligned_regions, **VISUAL_BERT),
]
