"""Fresh weights follow the documented scheme of each architecture, and one seed gives one model."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch

from eir_seq.models import create_model
from tests.models.tiny import EVERY_TASK, OPTIONS, tiny

WIDE: dict[str, dict[str, Any]] = {
    "bert": {"vocab_size": 500, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256},
    "roberta": {"vocab_size": 500, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256},
    "longformer": {"vocab_size": 500, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256},
    "distilbert": {"vocab_size": 500, "dim": 128, "n_heads": 4, "hidden_dim": 256},
    "gpt2": {"vocab_size": 500, "n_embd": 128, "n_head": 4, "n_positions": 64},
    "t5": {"vocab_size": 500, "d_model": 128, "d_kv": 48, "d_ff": 256, "num_heads": 4, "initializer_factor": 0.5},
    "sequence-default": {"vocab_size": 500, "embedding_dim": 128, "num_heads": 4},
}
GPT2_RESIDUAL = 0.02 / (2 * 2) ** 0.5
# for each architecture the deviation of matrices by pattern of their name; the first match counts
SCHEMES: dict[str, dict[str, float]] = {
    "bert": {"*": 0.02},
    "roberta": {"*": 0.02},
    "longformer": {"*": 0.02},
    "distilbert": {"*": 0.02},
    "gpt2": {"*.mixer.out.weight": GPT2_RESIDUAL, "*.mlp.down.weight": GPT2_RESIDUAL, "*": 0.02},
    "sequence-default": {"*.mixer.out.weight": GPT2_RESIDUAL, "*.mlp.down.weight": GPT2_RESIDUAL, "*": 0.02},
    "t5": {
        "*.tokens.weight": 0.5,
        "*.query.weight": 0.5 * (128 * 48) ** -0.5,
        "*.key.weight": 0.5 * 128**-0.5,
        "*.value.weight": 0.5 * 128**-0.5,
        "*.out.weight": 0.5 * (4 * 48) ** -0.5,
        "*.up.weight": 0.5 * 128**-0.5,
        "*.down.weight": 0.5 * 256**-0.5,
        "*.score_bias.table.weight": 0.5 * 128**-0.5,
    },
}


@pytest.mark.parametrize("model_type", SCHEMES)
def test_moments(model_type: str) -> None:
    layers = {"t5": {"num_layers": 2}, "gpt2": {"n_layer": 2}, "distilbert": {"n_layers": 2}}
    options = {**WIDE[model_type], **layers.get(model_type, {})}
    if model_type in ("bert", "roberta", "longformer"):
        options |= {"num_hidden_layers": 2}
    torch.manual_seed(0)
    model = create_model(model_type, options)
    padding = getattr(model.config, "pad_token_id", None)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            values = parameter.detach().double()
            if name.endswith("tokens.weight") and padding is not None and model_type not in ("t5", "gpt2"):
                assert not values[padding].any()
                values = torch.cat((values[:padding], values[padding + 1 :]))
            expected = next(std for pattern, std in SCHEMES[model_type].items() if fnmatchcase(name, pattern))
            # the deviation of a deviation of n normal numbers is std / sqrt(2 n); five of them
            assert float(values.std()) == pytest.approx(expected, rel=5 / (2 * values.numel()) ** 0.5), name
            assert abs(float(values.mean())) < 5 * expected / values.numel() ** 0.5, name


@pytest.mark.parametrize(("model_type", "task"), EVERY_TASK)
def test_one_seed_gives_one_model(model_type: str, task: str) -> None:
    first, second = tiny(model_type, task), tiny(model_type, task)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    torch.manual_seed(1)
    third = create_model(model_type, OPTIONS[model_type], task=task)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))


def test_sine_waves_are_fixed() -> None:
    table = tiny("distilbert", sinusoidal_pos_embds=True).body.embeddings.positions.weight
    assert not table.requires_grad
    angles = [3.0, 3.0 * 10000 ** (-2 / 32)]
    expected = torch.tensor([wave(angle) for angle in angles for wave in (math.sin, math.cos)])
    torch.testing.assert_close(table[3, :4], expected)


def test_the_default_precision_is_kept() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert {p.dtype for p in tiny("bert").parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)
