"""Options of prophetnet and xlm-prophetnet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class ProphetNetConfig(ModelConfig):
    """Options of prophetnet."""

    model_type: ClassVar[str] = "prophetnet"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"
    aliases = {"num_attention_heads": "num_encoder_attention_heads"}

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    encoder_ffn_dim: int = size(4096, "inner width of the encoder's feed-forward blocks")
    num_encoder_layers: int = layers(12, "layers of the encoder")
    num_encoder_attention_heads: int = size(16, "attention heads of the encoder's layers; they divide hidden_size")
    decoder_ffn_dim: int = size(4096, "inner width of the decoder's feed-forward blocks")
    num_decoder_layers: int = layers(12, "layers of the decoder")
    num_decoder_attention_heads: int = size(16, "attention heads of the decoder's layers; they divide hidden_size")
    activation_function: str = option("gelu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    dropout: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    activation_dropout: float = rate(0.1, "dropout inside of the feed-forward blocks")
    max_position_embeddings: int = size(
        512, "the longest text in tokens, on either side; the first one has position pad_token_id + 1"
    )
    init_std: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    ngram: int = size(2, "streams of the decoder that predict a token each from ever earlier ones")
    num_buckets: int = option(32, "classes of distances between tokens", minimum=2)
    relative_max_distance: int = size(128, "distance from which on all tokens share the last class")
    published_bias_order: bool = option(
        True,
        "biases of predicting streams are dealt out as the published code does it: where several tokens are read at "
        "once a token gets those of others, of later ones too; false: each its own, as in the paper (see the guide)",
    )
    disable_ngram_loss: bool = option(False, "only the stream that predicts the next token is trained")
    eps: float = rate(0.0, "share of the targets that is spread over the vocabulary (label smoothing)")
    add_cross_attention: bool = option(
        True,
        "cross-attention in a standalone decoder (task causal-lm); with an encoder it is always there",
    )
    is_encoder_decoder: bool = option(True, "encoder and decoder; for the decoder alone use its task", choices=(True,))
    use_cache: bool = option(True, "the decoder returns its keys and values")
    decoder_start_token_id: int = option(
        0, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    pad_token_id: int = option(0, "id of the padding token, whose fresh vector is zero", minimum=0)
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        for heads in ("num_encoder_attention_heads", "num_decoder_attention_heads"):
            if self.hidden_size % getattr(self, heads):
                yield "hidden_size", f"{self.hidden_size} is not divisible by {heads} {getattr(self, heads)}"
        for token in ("pad_token_id", "decoder_start_token_id"):
            if getattr(self, token) >= self.vocab_size:
                yield token, f"{getattr(self, token)} is outside the vocabulary of {self.vocab_size} tokens"
        if self.relative_max_distance <= self.num_buckets // 2:
            exact = self.num_buckets // 2
            yield "relative_max_distance", f"must exceed {exact}, the distances that have a class each"


@dataclass(frozen=True, kw_only=True)
class XLMProphetNetConfig(ProphetNetConfig):
    """Options of xlm-prophetnet."""

    model_type: ClassVar[str] = "xlm-prophetnet"
