"""Rows of xlm and flaubert."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.cases.base import VOCABULARY, Case, Inputs
from tests.parity.cases.relative import answers

XLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
}


def languages(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {"langs": torch.randint(0, 3, ids.shape, generator=generator)}


def languages_and_types(ids: Tensor, generator: torch.Generator) -> Inputs:
    """Types are looked up in the token table."""
    return {**languages(ids, generator), "token_type_ids": torch.randint(0, 2, ids.shape, generator=generator)}


SEARCH: dict[str, Any] = {"targets": {"answer-search": answers}}

CASES = [
    Case("flaubert", XLM, **SEARCH),
    # the reference forgets to hand its weights on
    Case("flaubert@pre_norm", {**XLM, "pre_norm": True, "n_langs": 3}, languages, attends=False, **SEARCH),
    Case("flaubert@causal", {**XLM, "causal": True, "pre_norm": True}, attends=False, **SEARCH),
    Case("xlm", {**XLM, "n_langs": 3}, languages, **SEARCH),
    Case("xlm@types", {**XLM, "n_langs": 3, "summary_type": "mean"}, languages_and_types, **SEARCH),
    Case("xlm@no_languages", {**XLM, "n_langs": 3, "use_lang_emb": False, "tie_word_embeddings": False}, **SEARCH),
    Case(
        "xlm@causal_sinusoidal",
        {
            **XLM,
            "causal": True,
            "sinusoidal_embeddings": True,
            "gelu_activation": False,
            "summary_type": "cls_index",
            "summary_activation": "tanh",
        },
        **SEARCH,
    ),
]
