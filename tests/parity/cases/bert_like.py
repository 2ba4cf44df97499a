"""Rows of variants of bert and roberta."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.parity.cases.base import ROBERTA_IDS, Case, Inputs, bertish, segments


def memory(ids: Tensor, generator: torch.Generator) -> Inputs:
    """States of another text, for cross-attention."""
    mask = torch.ones(len(ids), 7, dtype=torch.long)
    mask[-1, 4:] = 0
    states = torch.randn(len(ids), 7, 32, generator=generator)
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def task_types(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {**segments(ids, generator), "task_type_ids": torch.randint(0, 3, ids.shape, generator=generator)}


def signs(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {
        **segments(ids, generator),
        "input_shape_ids": torch.randint(1, 40, ids.shape, generator=generator),
        "input_pronunciation_ids": torch.randint(1, 30, ids.shape, generator=generator),
    }


def with_question(ids: Tensor, generator: torch.Generator) -> Inputs:
    """A question token in the same place of every text, and two more in the first text."""
    ids = ids.clone()
    ids[:, 2] = ids[0, 5] = ids[0, 9] = 5
    return {**segments(ids, generator), "input_ids": ids}


def replaced(inputs: Inputs, places: Tensor) -> Inputs:
    return {"labels": inputs["input_ids"] % 2}


def order(inputs: Inputs, places: Tensor) -> Inputs:
    return {
        "labels": inputs["input_ids"].roll(1, 1).masked_fill(~places, -100),
        "sentence_order_label": torch.tensor([1, 0, 1]),
    }


def answers(inputs: Inputs, places: Tensor) -> Inputs:
    """Two questions per text, the second of the last text missing."""
    return {
        "question_positions": torch.tensor([[2, 5], [2, 1], [2, 0]]),
        "start_positions": torch.tensor([[3, 1], [1, 2], [3, 0]]),
        "end_positions": torch.tensor([[4, 2], [5, 2], [3, 0]]),
    }


def copies(inputs: Inputs, places: Tensor) -> Inputs:
    """The text as it was, and a disfigured copy."""
    names = [name for name in inputs if name.startswith("input_") or name in ("attention_mask", "token_type_ids")]
    clean = {f"labels_{name}": inputs[name] for name in names}
    attacked = {f"attack_{name}": inputs[name] for name in names}
    return {
        **clean,
        **attacked,
        "labels_input_ids": inputs["input_ids"].roll(1, 1).masked_fill(~places, -100),
        "attack_input_ids": torch.where(inputs["input_ids"] % 3 == 0, 11, inputs["input_ids"]),
    }


ALBERT = bertish(embedding_size=16, num_hidden_layers=4, num_hidden_groups=2)
REMBERT = bertish(input_embedding_size=16, output_embedding_size=24, pad_token_id=0, bos_token_id=1, eos_token_id=2)
SIGNS = {"pronunciation_vocab_size": 30, "shape_vocab_size": 40}
ROC_BERT = bertish(**SIGNS, pronunciation_embed_dim=10, shape_embed_dim=12)
WIDE_SIGNS = {**SIGNS, "pronunciation_embed_dim": 32, "shape_embed_dim": 32}
CROSS = {"is_decoder": True, "add_cross_attention": True}
RELATIVE = {"position_embedding_type": "relative_key_query"}

CASES = [
    Case("albert", {**ALBERT, "inner_group_num": 2}, segments, targets={"pretraining": order}),
    Case("albert@one_group", {**ALBERT, "num_hidden_groups": 1, "embedding_size": 32}, targets={"pretraining": order}),
    Case(
        "albert@relative_key",
        {**ALBERT, "position_embedding_type": "relative_key", "tie_word_embeddings": False},
        targets={"pretraining": order},
    ),
    Case("albert@relative_key_query", {**ALBERT, **RELATIVE}, targets={"pretraining": order}),
    Case("bert-generation", bertish()),
    Case("bert-generation@decoder", bertish(is_decoder=True, tie_word_embeddings=False)),
    Case("bert-generation@cross", bertish(**CROSS), memory),
    Case("bert-generation@relative_key_query", bertish(**RELATIVE)),
    Case("camembert", bertish(**ROBERTA_IDS), segments),
    Case("data2vec-text", bertish(**ROBERTA_IDS), segments),
    Case("electra", bertish(embedding_size=16), segments, targets={"pretraining": replaced}),
    Case(
        "electra@wide_tables",
        bertish(embedding_size=32, position_embedding_type="relative_key", tie_word_embeddings=False),
        targets={"pretraining": replaced},
    ),
    Case("electra@relative_key_query", bertish(embedding_size=16, **RELATIVE), targets={"pretraining": replaced}),
    Case(
        "electra@mean_summary",
        bertish(embedding_size=16, summary_type="mean", summary_use_proj=False),
        targets={"pretraining": replaced},
    ),
    Case(
        "electra@last_summary",
        bertish(embedding_size=16, summary_type="cls_index", summary_activation=None),
        targets={"pretraining": replaced},
    ),
    Case("electra@decoder", bertish(embedding_size=16, is_decoder=True), targets={"pretraining": replaced}),
    Case("ernie", bertish(use_task_id=True), task_types, withheld={"multiple-choice": ("task_type_ids",)}),
    Case("ernie@no_task", bertish(tie_word_embeddings=False, **RELATIVE), segments),
    Case("megatron-bert", bertish(), segments),
    Case("megatron-bert@cross", bertish(**CROSS), memory),
    Case("megatron-bert@decoder", bertish(is_decoder=True, tie_word_embeddings=False), segments),
    # with a cache, the reference takes every query for the last one
    Case("megatron-bert@causal_distances", bertish(is_decoder=True, use_cache=False, **RELATIVE), segments),
    Case("nezha", bertish(max_relative_position=6), segments),
    Case("nezha@decoder", bertish(max_relative_position=30, is_decoder=True, tie_word_embeddings=False), segments),
    Case("rembert", REMBERT, segments),
    Case("rembert@tied", {**REMBERT, "output_embedding_size": 16, "tie_word_embeddings": True}, segments),
    Case("rembert@cross", {**REMBERT, **CROSS}, memory),
    Case("roberta-prelayernorm", bertish(**ROBERTA_IDS), segments),
    Case("roberta-prelayernorm@cross", bertish(**CROSS, **ROBERTA_IDS), memory),
    Case("roberta-prelayernorm@relative_key_query", bertish(tie_word_embeddings=False, **RELATIVE, **ROBERTA_IDS)),
    Case("roc_bert", ROC_BERT, signs, targets={"pretraining": copies}),
    Case("roc_bert@no_signs", ROC_BERT, segments, targets={"pretraining": copies}),
    Case("roc_bert@averaged", bertish(**WIDE_SIGNS, concat_input=False), signs, targets={"pretraining": copies}),
    Case(
        "roc_bert@averaged_no_signs",
        bertish(**WIDE_SIGNS, concat_input=False),
        segments,
        dead="signs",
        targets={"pretraining": copies},
    ),
    Case(
        "roc_bert@disabled",
        {**ROC_BERT, "enable_shape": False, "enable_pronunciation": False, "tie_word_embeddings": False},
        targets={"pretraining": copies},
    ),
    Case("splinter", bertish(question_token_id=5), with_question, targets={"pretraining": answers}),
    Case("xlm-roberta", bertish(**ROBERTA_IDS), segments),
    Case("xlm-roberta-xl", bertish(**ROBERTA_IDS)),
    Case("xlm-roberta-xl@cross", bertish(**CROSS, **ROBERTA_IDS), memory),
    Case("xlm-roberta-xl@relative_key_query", bertish(tie_word_embeddings=False, **RELATIVE, **ROBERTA_IDS)),
]
