"""Options of gpt_bigcode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.gpt2.options import GPTSizes
from eir_seq.models.options import ACTIVATIONS, option


@dataclass(frozen=True, kw_only=True)
class GPTBigCodeConfig(GPTSizes):
    """Options of gpt_bigcode."""

    model_type: ClassVar[str] = "gpt_bigcode"
    aliases = {**GPTSizes.aliases, "attention_type": "multi_query"}

    activation_function: str = option("gelu_pytorch_tanh", "activation of the feed-forward block", choices=ACTIVATIONS)
    scale_attn_weights: bool = option(True, "scores are divided by the square root of the head size")
    attention_softmax_in_fp32: bool = option(True, "scores are computed in float32 under mixed precision")
    scale_attention_softmax_in_fp32: bool = option(
        True,
        "with attention_softmax_in_fp32, they are scaled there too; here they always are: results differ by rounding",
    )
    multi_query: bool = option(True, "all query heads share one head of keys and values")
    bos_token_id: int | None = option(50256, "id of the token that begins a text")
    eos_token_id: int | None = option(50256, "id of the token that ends a text")

    @property
    def key_heads(self) -> int:
        """Heads of keys and values per layer."""
        return 1 if self.multi_query else self.n_head
