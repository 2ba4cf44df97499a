"""Rows of mega: chunks, both directions or one, both biases, all weightings and norms."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.cases.base import VOCABULARY, Case, segments

MEGA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "ema_projection_size": 8,
    "shared_representation_size": 16,
    "max_positions": 64,
    "nffn_hidden_size": 40,
}
CAUSAL: dict[str, Any] = {**MEGA, "bidirectional": False, "is_decoder": True}


def mended(reference: Any) -> None:
    """Texts count from their first real token, of any length; root-mean-square norms do norm; no cache unasked.

    The reference begins chunks at padding in front, and counts it as keys. It wants texts of whole chunks, computes
    that norm without using it, and while it writes a cache it forgets where averages end.
    """
    for module in reference.modules():
        if type(module).__name__ == "MegaRMSNorm":
            module.forward = functools.partial(_normed, module)
    base = reference.base_model
    forward, config = base.forward, reference.config

    @functools.wraps(forward)
    def wrapped(input_ids: Tensor | None = None, **inputs: Any) -> Any:
        given: dict[str, Any] = {"input_ids": input_ids, **inputs}
        tokens = input_ids if input_ids is not None else inputs["inputs_embeds"]
        length, mask = tokens.shape[1], inputs.get("attention_mask")
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.long)
        amounts = mask.argmax(1).tolist()  # padding in front

        def moved(x: Tensor, direction: int) -> Tensor:
            return torch.stack([row.roll(direction * by, 0) for row, by in zip(x, amounts, strict=True)])

        filler = -length % config.chunk_size if config.use_chunking else 0
        given["attention_mask"] = mask
        for name in ("input_ids", "inputs_embeds", "token_type_ids", "attention_mask"):
            if isinstance(x := given.get(name), Tensor):
                given[name] = F.pad(moved(x, -1), (0, 0) * (x.dim() - 2) + (0, filler))
        output = forward(**{**given, "use_cache": False})
        output["last_hidden_state"] = moved(output.last_hidden_state[:, :length], 1)
        if output.get("hidden_states") is not None:
            output["hidden_states"] = tuple(moved(x[:, :length], 1) for x in output.hidden_states)
        return output

    base.forward = wrapped


def _normed(norm: Any, x: Tensor) -> Tensor:
    unit = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    return unit if norm.weight is None else unit * norm.weight


def row(name: str, options: dict[str, Any], **more: Any) -> Case:
    return Case(name, options, mend=mended, head_mask=False, **more)


CASES = [
    row("mega", MEGA),
    row("mega@segments", {**MEGA, "add_token_type_embeddings": True, "activation": "gelu_accurate"}, extra=segments),
    row(
        "mega@simple",
        {
            **MEGA,
            "relative_positional_bias": "simple",
            "attention_activation": "relu2",
            "norm_affine": False,
            "truncation": 8,
            "add_lm_hidden_dense_layer": False,
        },
    ),
    row(
        "mega@chunks",
        {
            **MEGA,
            "use_chunking": True,
            "chunk_size": 8,
            "normalization_type": "layernorm",
            "normalize_before_ffn": False,
        },
        attends=False,  # weights are those of chunks, and have a test of their own
    ),
    row(
        "mega@laplace",
        {
            **MEGA,
            "use_chunking": True,
            "chunk_size": 7,
            "relative_positional_bias": "simple",
            "attention_activation": "laplace",
            "normalization_type": "rmsnorm",
        },
        attends=False,
    ),
    row("mega@decoder", {**CAUSAL, "tie_word_embeddings": False}),
    row(
        "mega@decoder_chunks",
        {
            **CAUSAL,
            "use_chunking": True,
            "chunk_size": 10,
            "attention_activation": "laplace",
            "normalize_before_mega": False,
            "use_normalized_ffn": False,
            "truncation": 5,
        },
        attends=False,
    ),
    row(
        "mega@decoder_simple",
        {
            **CAUSAL,
            "relative_positional_bias": "simple",
            "attention_activation": "relu2",
            "normalization_type": "layernorm",
        },
    ),
    row("mega@batchnorm", {**MEGA, "normalization_type": "batchnorm", "activation": "relu"}, calibrated=True),
    row(
        "mega@one_direction",
        {**MEGA, "bidirectional": False, "normalization_type": "syncbatchnorm", "normalize_before_mega": False},
    ),
]
