"""What a language model must not do: see the tokens that it is to predict."""

from __future__ import annotations

from typing import Any

import pytest

from eir_seq.backbones import sees_ahead
from eir_seq.models.catalogue import CATALOGUE
from tests.models.tiny import tiny

PAIRS = [name for name, entry in CATALOGUE.items() if "seq2seq-lm" in entry.tasks]


@pytest.mark.parametrize(
    ("model_type", "task", "options", "expected"),
    [
        ("gpt2", "causal-lm", {}, False),
        ("bert", "causal-lm", {"is_decoder": True}, False),
        ("bert", "causal-lm", {"is_decoder": False}, True),
        ("prophetnet", "causal-lm", {}, True),
        ("prophetnet", "causal-lm", {"published_bias_order": False}, False),
        ("prophetnet", "seq2seq-lm", {"published_bias_order": False}, False),
        ("xlm-prophetnet", "seq2seq-lm", {"published_bias_order": False}, False),
    ],
)
def test_what_sees_ahead(model_type: str, task: str, options: dict[str, Any], expected: bool) -> None:
    model = tiny(model_type, task, **options).train()
    assert sees_ahead(model, task) is expected
    assert model.training


@pytest.mark.parametrize("model_type", PAIRS)
def test_which_pairs_see_ahead(model_type: str) -> None:
    """Those that mix biases as published, from the second layer on: in the first one there is no text in them yet."""
    assert sees_ahead(tiny(model_type, "seq2seq-lm"), "seq2seq-lm") is (model_type == "prophetnet")
