"""Options of mixtral."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, WINDOW, LlamaLikeConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class MixtralConfig(LlamaLikeConfig):
    """Options of mixtral."""

    model_type: ClassVar[str] = "mixtral"

    intermediate_size: int = size(14336, "inner width of every expert")
    num_key_value_heads: int | None = size(8, KV_HEADS)
    head_dim: int | None = size(None, "channels of a head; hidden_size / num_attention_heads if absent")
    max_position_embeddings: int = size(131072, "the longest text in tokens; a rope_scaling may lengthen it")
    rms_norm_eps: float = option(1e-5, "added to the mean square in norms", minimum=0.0)
    rope_theta: float = option(1e6, "base of the RoPE frequencies", minimum=1.0)
    sliding_window: int | None = size(None, WINDOW)
    num_experts_per_tok: int = size(2, "experts that each token goes through: those that its router scores highest")
    num_local_experts: int = size(8, "experts (feed-forward blocks) per layer")
    output_router_logits: bool = option(
        False, "return the scores of the routers, and add their loss to that of the language model"
    )
    router_aux_loss_coef: float = option(
        0.001, "weight of the loss that wants all experts to be used alike", minimum=0.0
    )
    router_jitter_noise: float = option(
        0.0,
        "in training, inputs of the experts are multiplied by random numbers as far as this from one",
        minimum=0.0,
        maximum=1.0,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.num_experts_per_tok > self.num_local_experts:
            yield (
                "num_experts_per_tok",
                f"{self.num_experts_per_tok} is more than num_local_experts {self.num_local_experts}",
            )
