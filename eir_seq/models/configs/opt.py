"""Options of opt, biogpt and xglm: causal decoders of one toolkit, whose position tables have two rows in front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class LikeOPT(ModelConfig):
    """Options that all of them have."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    max_position_embeddings: int = size(2048, "the longest text in tokens")
    layerdrop: float = rate(0.0, "chance of a layer to be left out in training")
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(1, "id of the padding token, whose fresh vector is zero")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        width, heads = (self.aliases.get(name, name) for name in ("hidden_size", "num_attention_heads"))
        if getattr(self, width) % getattr(self, heads):
            yield width, f"{getattr(self, width)} is not divisible by {heads} {getattr(self, heads)}"


@dataclass(frozen=True, kw_only=True)
class OPTConfig(LikeOPT):
    """Options of opt."""

    model_type: ClassVar[str] = "opt"

    vocab_size: int = size(50272, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states between layers")
    num_hidden_layers: int = layers(12, "number of layers")
    ffn_dim: int = size(3072, "inner width of the feed-forward block")
    do_layer_norm_before: bool = option(
        True, "norms in front of the sublayers and one behind all layers, instead of one behind each sublayer"
    )
    _remove_final_layer_norm: bool = option(False, "no norm behind all layers, as in files of before June 2022")
    word_embed_proj_dim: int | None = size(
        None, "width of token vectors and last states where it is not that of the layers: linear layers go between them"
    )
    dropout: float = rate(0.1, "dropout on the output of every sublayer")
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    num_attention_heads: int = size(12, "attention heads per layer; they divide hidden_size")
    activation_function: str = option("relu", "activation of the feed-forward block", choices=ACTIVATIONS)
    init_std: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    enable_bias: bool = option(True, "linear layers of attention and feed-forward blocks have biases")
    layer_norm_elementwise_affine: bool = option(True, "norms have scales and shifts that are learned")

    @property
    def width(self) -> int:
        return self.word_embed_proj_dim or self.hidden_size


@dataclass(frozen=True, kw_only=True)
class BioGptConfig(LikeOPT):
    """Options of biogpt."""

    model_type: ClassVar[str] = "biogpt"

    vocab_size: int = size(42384, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")
    hidden_act: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_probs_dropout_prob: float = rate(0.1, "dropout on attention weights")
    max_position_embeddings: int = size(1024, "the longest text in tokens")
    initializer_range: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    layer_norm_eps: float = option(
        1e-12, "published models add 1e-5 to the variance in norms, whatever this says", minimum=0.0
    )
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of hidden_size")
    activation_dropout: float = rate(0.0, "dropout inside of the feed-forward block")


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
    init_std: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")
    decoder_start_token_id: int | None = option(2, "id of the token that a generated text begins with")
    add_cross_attention: bool = option(False, "layers also attend to encoder_hidden_states")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model < 4:
            yield "d_model", f"{self.d_model} is too narrow: position waves need two speeds, so 4 channels"
