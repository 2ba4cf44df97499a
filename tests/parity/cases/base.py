"""One row per architecture and documented variant: tiny options, the extra inputs it needs, and its tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 120
LENGTH, DECODER_LENGTH = 24, 12
LENGTHS, DECODER_LENGTHS = (24, 17, 9), (12, 10, 5)

Inputs = dict[str, Tensor]
Extra = Callable[[Tensor, torch.Generator], Inputs]
Targets = Callable[[Inputs, Tensor], Inputs]
"""(documented inputs, which places are real) -> what a loss needs besides."""


@dataclass(frozen=True)
class Case:
    """`tolerance`: greatest absolute difference in float32; anything above 1e-5 needs a reason in `why`.

    `dead`: pattern of our parameters that these inputs do not reach. `unknown`: documented inputs of others that the
    reference does not take (ours may, and leaves them unread). `attends`: whether there are weights of attention and
    heads. `reopens`: whether the reference can open its own files. `targets`: per task, where the architecture has its
    own kind. `head_mask`: whether it can switch heads off. `mend`: repairs a model of the reference.
    `withheld`: per task, inputs that its class cannot take.
    `trains`: gradients are taken in training, as the reference has none in evaluation (there is no dropout then).
    `lengths`: tokens of each text, the longest first; without padding where the reference lets that leak.
    """

    name: str
    options: dict[str, Any]
    extra: Extra | None = None
    tolerance: float = 1e-5
    why: str = ""
    reference_only: dict[str, Any] = field(default_factory=dict)
    dead: str = ""
    unknown: tuple[str, ...] = ()
    attends: bool = True
    reopens: bool = True
    calibrated: bool = False
    head_mask: bool = True
    mend: Callable[[Any], None] | None = None
    trains: bool = False
    targets: Mapping[str, Targets] = field(default_factory=dict)
    withheld: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lengths: tuple[int, ...] = LENGTHS

    @property
    def model_type(self) -> str:
        return self.name.partition("@")[0]


def segments(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {"token_type_ids": torch.randint(0, 2, ids.shape, generator=generator)}


def some_global(ids: Tensor, generator: torch.Generator) -> Inputs:
    """Global tokens, not equally many in each text, on real tokens of either padding."""
    mask = torch.zeros_like(ids)
    mask[:, 15] = 1
    mask[0, 5] = 1
    return {"global_attention_mask": mask}


def bertish(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        **more,
    }


GLOBAL_PROJECTIONS = r"_global\.(weight|bias)$"
ROBERTA_IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTILBERT = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "n_layers": 2,
    "n_heads": 4,
    "dim": 32,
    "hidden_dim": 48,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
