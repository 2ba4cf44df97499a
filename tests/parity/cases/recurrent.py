"""Rows of mamba and rwkv."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from tests.parity.cases.base import VOCABULARY, Case

MAMBA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "state_size": 4,
    "num_hidden_layers": 2,
    "time_step_rank": 3,
    "pad_token_id": 0,
}
RWKV: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "attention_hidden_size": 32,
    "intermediate_size": 48,
    "context_length": 64,
}


def without_padding_in_front(reference: Any) -> None:
    """It leaves the mask unread: padding then stands behind the texts instead, and states come back to their places."""
    forward = reference.forward

    @functools.wraps(forward)
    def wrapped(*args: Any, **inputs: Any) -> Any:
        mask = inputs.get("attention_mask")
        if mask is None or bool(mask[:, 0].all()):
            return forward(*args, **inputs)
        amounts = (mask == 0).sum(1).tolist()

        def moved(x: Tensor, direction: int) -> Tensor:
            return torch.stack([row.roll(direction * by, 0) for row, by in zip(x, amounts, strict=True)])

        output = forward(**{name: moved(x, -1) if isinstance(x, Tensor) else x for name, x in inputs.items()})
        output["last_hidden_state"] = moved(output.last_hidden_state, 1)
        output["hidden_states"] = tuple(moved(x, 1) for x in output.hidden_states)
        return output

    reference.forward = wrapped


# the reference's states in evaluation are written over, which its gradients do not survive
LEARNS: dict[str, Any] = {"attends": False, "trains": True}
MENDED = {**LEARNS, "mend": without_padding_in_front}

CASES = [
    Case("mamba", MAMBA, **LEARNS),
    Case(
        "mamba@biases",
        {
            **MAMBA,
            "use_bias": True,
            "use_conv_bias": False,
            "conv_kernel": 2,
            "expand": 3,
            "hidden_act": "gelu",
            "time_step_rank": "auto",
            "residual_in_fp32": False,
            "tie_word_embeddings": False,
        },
        **LEARNS,
    ),
    Case("rwkv", RWKV, **MENDED),
    Case(
        "rwkv@rescaled",
        {**RWKV, "num_hidden_layers": 4, "rescale_every": 1, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": True},
        **MENDED,
    ),
]
