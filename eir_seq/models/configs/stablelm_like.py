"""Options of decoders with rotations and norms that centre: starcoder2, stablelm, phi, persimmon and cohere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.llama_like import KV_HEADS, WINDOW, RotaryDecoderConfig
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size

EPS = "added to the variance in layer norms"
TURNED = "share of a head's channels that are turned, its first ones"


@dataclass(frozen=True, kw_only=True)
class Starcoder2Config(RotaryDecoderConfig):
    """Options of starcoder2."""

    model_type: ClassVar[str] = "starcoder2"

    vocab_size: int = size(49152, "number of tokens in the vocabulary")
    hidden_size: int = size(3072, "width of the token states")
    intermediate_size: int = size(12288, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(30, "number of layers")
    num_attention_heads: int = size(24, "query heads per layer")
    num_key_value_heads: int = size(2, KV_HEADS)
    hidden_act: str = option("gelu_pytorch_tanh", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(4096, "the longest text in tokens; a rope_scaling may lengthen it")
    initializer_range: float = option(0.018042, "deviation of the normal distribution of fresh weights", minimum=0.0)
    norm_epsilon: float = option(1e-5, EPS, minimum=0.0)
    bos_token_id: int | None = option(50256, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(50256, "id (or ids) of the token that ends a text")
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    sliding_window: int | None = size(None, WINDOW)
    residual_dropout: float = rate(0.0, "dropout on the output of every sublayer")
    embedding_dropout: float = rate(0.0, "dropout on embeddings")
    use_bias: bool = option(True, "linear layers have biases")


@dataclass(frozen=True, kw_only=True)
class StableLmConfig(RotaryDecoderConfig):
    """Options of stablelm."""

    model_type: ClassVar[str] = "stablelm"

    vocab_size: int = size(50304, "number of tokens in the vocabulary")
    hidden_size: int = size(2560, "width of the token states")
    intermediate_size: int = size(6912, "inner width of the feed-forward block")
    num_key_value_heads: int = size(32, KV_HEADS)
    max_position_embeddings: int = size(4096, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(0, "id (or ids) of the token that ends a text")
    use_qkv_bias: bool = option(False, "linear layers of queries, keys and values have biases")
    qk_layernorm: bool = option(False, "queries and keys are normed, every head by a scale of its own")
    use_parallel_residual: bool = option(False, "attention and feed-forward block read the same normed state")
    hidden_dropout: float = rate(0.0, "dropout on the output of feed-forward blocks")
    partial_rotary_factor: float = option(0.25, TURNED, minimum=0.0, maximum=1.0)


@dataclass(frozen=True, kw_only=True)
class PhiConfig(RotaryDecoderConfig):
    """Options of phi."""

    model_type: ClassVar[str] = "phi"

    vocab_size: int = size(51200, "number of tokens in the vocabulary")
    hidden_size: int = size(2048, "width of the token states")
    intermediate_size: int = size(8192, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(24, "number of layers")
    num_key_value_heads: int | None = size(None, KV_HEADS)
    resid_pdrop: float = rate(0.0, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.0, "dropout on embeddings")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    partial_rotary_factor: float = option(0.5, TURNED, minimum=0.0, maximum=1.0)
    qk_layernorm: bool = option(False, "queries and keys are normed, all heads by one scale and shift")


@dataclass(frozen=True, kw_only=True)
class PersimmonConfig(RotaryDecoderConfig):
    """Options of persimmon."""

    model_type: ClassVar[str] = "persimmon"

    vocab_size: int = size(262144, "number of tokens in the vocabulary")
    intermediate_size: int = size(16384, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(36, "number of layers")
    num_attention_heads: int = size(64, "attention heads per layer")
    hidden_act: str = option("relu2", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(16384, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    rope_theta: float = option(25000.0, "base of the wave lengths of the rotations", minimum=1.0)
    qk_layernorm: bool = option(True, "queries and keys are normed, all heads by one scale and shift")
    hidden_dropout: float = rate(0.0, "dropout on the output of feed-forward blocks")
    partial_rotary_factor: float = option(0.5, TURNED, minimum=0.0, maximum=1.0)


@dataclass(frozen=True, kw_only=True)
class CohereConfig(RotaryDecoderConfig):
    """Options of cohere."""

    model_type: ClassVar[str] = "cohere"

    vocab_size: int = size(256000, "number of tokens in the vocabulary")
    hidden_size: int = size(8192, "width of the token states")
    intermediate_size: int = size(22528, "inner width of the feed-forward block")
    logit_scale: float = option(0.0625, "factor on the scores of the language-model head")
    num_hidden_layers: int = layers(40, "number of layers")
    num_attention_heads: int = size(64, "query heads per layer")
    num_key_value_heads: int | None = size(None, KV_HEADS)
    max_position_embeddings: int = size(8192, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    pad_token_id: int | None = option(0, "id of the padding token, by which the last real token is found")
    bos_token_id: int | None = option(5, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(255001, "id (or ids) of the token that ends a text")
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    attention_bias: bool = option(False, "linear layers of attention have biases")
    use_qk_norm: bool = option(False, "queries and keys are normed, every head by a scale of its own")
