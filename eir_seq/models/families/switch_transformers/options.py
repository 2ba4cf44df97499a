"""Options of switch_transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.t5.options import LikeT5
from eir_seq.models.options import ACTIVATIONS, layers, option, size

SPARSE = "how many of its layers have experts: each n-th from the second on, n being layers by this, rounded down"


@dataclass(frozen=True, kw_only=True)
class SwitchTransformersConfig(LikeT5):
    """Options of switch_transformers: t5 with experts in some of its feed-forward blocks."""

    model_type: ClassVar[str] = "switch_transformers"

    d_model: int = size(768, "width of the token states")
    expert_capacity: int = size(64, "tokens of a text that an expert takes; later ones pass by it unchanged")
    num_layers: int = layers(12, "layers of the encoder")
    num_sparse_encoder_layers: int = option(3, f"of the encoder, {SPARSE}", minimum=0)
    num_decoder_layers: int | None = layers(12, "layers of the decoder; as many as the encoder's if null")
    num_sparse_decoder_layers: int = option(3, f"of the decoder, {SPARSE}", minimum=0)
    num_heads: int = size(12, "attention heads per layer")
    num_experts: int = size(8, "experts (feed-forward blocks) of a layer that has them")
    router_bias: bool = option(False, "routers have biases")
    router_jitter_noise: float = option(
        0.01,
        "in training, inputs of the experts are multiplied by random numbers as far as this from one",
        minimum=0.0,
        maximum=1.0,
    )
    router_dtype: str = option("float32", "precision of the routers", choices=("float32", "float16", "bfloat16"))
    router_ignore_padding_tokens: bool = option(
        False, "padding uses no capacity of the experts, and does not count in the routers' losses"
    )
    router_z_loss_coef: float = option(0.001, "weight of the loss that keeps scores of routers small", minimum=0.0)
    router_aux_loss_coef: float = option(
        0.001, "weight of the loss that wants all experts to be used alike", minimum=0.0
    )
    dense_act_fn: str = option("relu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    add_router_probs: bool = option(
        False, "classes without a loss return the scores of the routers, too; those with one do so anyway"
    )

    def activation(self) -> str:
        """The activation of the feed-forward block."""
        return self.dense_act_fn

    def sparse(self, *, decoder: bool) -> tuple[bool, ...]:
        """Per layer of one side, whether it has experts."""
        wanted = self.num_sparse_decoder_layers if decoder else self.num_sparse_encoder_layers
        count = self.layers(decoder=decoder)
        step = count // wanted if wanted else count + 1
        return tuple(bool(wanted) and (step == 1 or i % step == 1) for i in range(count))

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for name, decoder in (("num_sparse_encoder_layers", False), ("num_sparse_decoder_layers", True)):
            if (wanted := getattr(self, name)) > (count := self.layers(decoder=decoder)):
                yield name, f"{wanted} is more than the {count} layers of that side"
