"""Options of xglm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.opt.options import LikeOPT
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class XGLMConfig(LikeOPT):
    """Options of xglm."""

    model_type: ClassVar[str] = "xglm"
    aliases = {"hidden_size": "d_model", "num_hidden_layers": "num_layers", "num_attention_heads": "attention_heads"}

    vocab_size: int = size(256008, "number of tokens in the vocabulary")
    d_model: int = size(1024, "width of the token states")
    ffn_dim: int = size(4096, "inner width of the feed-forward block")
    num_layers: int = layers(24, "number of layers")
    attention_heads: int = size(16, "attention heads per layer; they divide d_model")
    activation_function: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    dropout: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    activation_dropout: float = rate(0.0, "dropout inside of the feed-forward block")
    init_std: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")
    decoder_start_token_id: int | None = option(2, "id of the token that a generated text begins with")
    add_cross_attention: bool = option(False, "layers also attend to encoder_hidden_states")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model < 4:
            yield "d_model", f"{self.d_model} is too narrow: sinusoidal positions need two frequencies, so 4 channels"
