"""Options of nllb-moe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.m2m_100.options import M2M100Config
from eir_seq.models.options import option, rate, size


@dataclass(frozen=True, kw_only=True)
class NllbMoeConfig(M2M100Config):
    """Options of nllb-moe."""

    model_type: ClassVar[str] = "nllb-moe"

    num_experts: int = option(128, "feed-forward blocks of a sparse layer, of which a token takes two", minimum=2)
    encoder_sparse_step: int = option(4, "every n-th layer of the encoder is sparse; 0: none", minimum=0)
    decoder_sparse_step: int = option(4, "every n-th layer of the decoder is sparse; 0: none", minimum=0)
    expert_capacity: int | None = size(
        64, "tokens of a batch that an expert takes in training; absent: twice its fair share. Others pass it by"
    )
    moe_eval_capacity_token_fraction: float = option(
        1.0, "share of a batch's tokens (padding counts) that an expert takes in evaluation; 0 or less: expert_capacity"
    )
    moe_token_dropout: float = rate(0.2, "dropout on what experts give; in evaluation so much is taken off it")
    second_expert_policy: str = option(
        "all",
        "the second best expert is taken always, by scores with noise (sampling), or with twice its probability "
        "(random); in evaluation too",
        choices=("all", "sampling", "random"),
    )
    normalize_router_prob_before_dropping: bool = option(
        False, "routing weights of a token's two experts are normalized before capacity is applied, not after"
    )
    batch_prioritized_routing: bool = option(
        False, "experts take tokens in order of their routing probability, not of their position"
    )
    router_bias: bool = option(False, "the router's linear layer has a bias")
    router_dtype: str = option("float32", "precision of the router", choices=("float32", "float16", "bfloat16"))
    router_ignore_padding_tokens: bool = option(False, "padding is routed too, and uses capacity of the experts")
    output_router_logits: bool = option(
        False, "the weights of experts are returned, and how unevenly they are used enters the loss"
    )
    router_aux_loss_coef: float = option(0.001, "weight of that in the loss, for each side", minimum=0.0)
    router_z_loss_coef: float = option(
        0.001, "published models have no such loss of their routers, whatever this says", minimum=0.0
    )

    def sparse(self, *, decoder: bool) -> tuple[bool, ...]:
        """Of each layer of a side, whether it has experts."""
        step = self.decoder_sparse_step if decoder else self.encoder_sparse_step
        layers = self.decoder_layers if decoder else self.encoder_layers
        return tuple(step > 0 and (number + 1) % step == 0 for number in range(layers))
