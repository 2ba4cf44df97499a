"""Options of bart and similar models: encoder-decoders with position tables, layers and heads set for each side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.errors import Fault, UserError
from eir_seq.models.options import ACTIVATIONS, ModelConfig, default_of, fields, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class LikeBart(ModelConfig):
    """Options that all of them have."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"
    aliases = {"hidden_size": "d_model", "num_attention_heads": "encoder_attention_heads"}

    vocab_size: int = size(50265, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(1024, "the longest text in tokens, on either side")
    encoder_layers: int = layers(12, "layers of the encoder")
    encoder_ffn_dim: int = size(4096, "inner width of the encoder's feed-forward blocks")
    encoder_attention_heads: int = size(16, "attention heads of the encoder's layers; they divide d_model")
    decoder_layers: int = layers(12, "layers of the decoder")
    decoder_ffn_dim: int = size(4096, "inner width of the decoder's feed-forward blocks")
    decoder_attention_heads: int = size(16, "attention heads of the decoder's layers; they divide d_model")
    encoder_layerdrop: float = rate(0.0, "probability of skipping an encoder layer in training (LayerDrop)")
    decoder_layerdrop: float = rate(0.0, "probability of skipping a decoder layer in training (LayerDrop)")
    activation_function: str = option("gelu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    d_model: int = size(1024, "width of the token states")
    dropout: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    activation_dropout: float = rate(0.0, "dropout inside of the feed-forward blocks")
    init_std: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    scale_embedding: bool = option(False, "token vectors are multiplied by the square root of d_model")
    use_cache: bool = option(True, "the decoder returns its keys and values")
    add_cross_attention: bool = option(
        True,
        "cross-attention in a standalone decoder (task causal-lm); with an encoder it is always there",
    )
    is_encoder_decoder: bool = option(True, "encoder and decoder; for the decoder alone use its task", choices=(True,))
    pad_token_id: int = option(1, "id of the padding token, whose fresh vector is zero", minimum=0)
    eos_token_id: int | None = option(2, "id of the token that ends a text")
    forced_eos_token_id: int | None = option(
        2, "id that a generated text ends with where its greatest length is reached"
    )

    def target_vocabulary(self) -> int:
        """Tokens that the decoder knows."""
        return self.vocab_size

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for heads in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, heads):
                yield "d_model", f"{self.d_model} is not divisible by {heads} {getattr(self, heads)}"
        least = min(self.vocab_size, self.target_vocabulary())
        if self.pad_token_id >= least:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {least} tokens"
        start, known = getattr(self, "decoder_start_token_id", 0), fields(type(self)).get("decoder_start_token_id")
        if known is not None and start >= self.target_vocabulary() and start != default_of(known):
            yield "decoder_start_token_id", f"{start} is outside the vocabulary of {self.target_vocabulary()} tokens"

    def start(self) -> int | None:
        """What the decoder begins with: padding where transformers' default lies outside a smaller vocabulary."""
        start: int | None = getattr(self, "decoder_start_token_id", None)
        return self.pad_token_id if start is not None and start >= self.target_vocabulary() else start


@dataclass(frozen=True, kw_only=True)
class BartConfig(LikeBart):
    """Options of bart."""

    model_type: ClassVar[str] = "bart"

    classifier_dropout: float = rate(0.0, "dropout of the classification head")
    num_labels: int = size(3, "number of classes (or values) of a classification head")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    decoder_start_token_id: int = option(
        2, "id that the decoder begins with, in generation and where it is fed shifted tokens", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class MBartConfig(LikeBart):
    """Options of mbart."""

    model_type: ClassVar[str] = "mbart"

    classifier_dropout: float = rate(0.0, "dropout of the classification head")
    bos_token_id: int | None = option(0, "id of the token that begins a text")


@dataclass(frozen=True, kw_only=True)
class PLBartConfig(MBartConfig):
    """Options of plbart."""

    model_type: ClassVar[str] = "plbart"

    vocab_size: int = size(50005, "number of tokens in the vocabulary")
    encoder_layers: int = layers(6, "layers of the encoder")
    encoder_ffn_dim: int = size(3072, "inner width of the encoder's feed-forward blocks")
    encoder_attention_heads: int = size(12, "attention heads of the encoder's layers; they divide d_model")
    decoder_layers: int = layers(6, "layers of the decoder")
    decoder_ffn_dim: int = size(3072, "inner width of the decoder's feed-forward blocks")
    decoder_attention_heads: int = size(12, "attention heads of the decoder's layers; they divide d_model")
    d_model: int = size(768, "width of the token states")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")


@dataclass(frozen=True, kw_only=True)
class BlenderbotConfig(LikeBart):
    """Options of blenderbot."""

    model_type: ClassVar[str] = "blenderbot"

    vocab_size: int = size(8008, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(128, "the longest text in tokens, on either side")
    encoder_layers: int = layers(2, "layers of the encoder")
    encoder_ffn_dim: int = size(10240, "inner width of the encoder's feed-forward blocks")
    encoder_attention_heads: int = size(32, "attention heads of the encoder's layers; they divide d_model")
    decoder_layers: int = layers(24, "layers of the decoder")
    decoder_ffn_dim: int = size(10240, "inner width of the decoder's feed-forward blocks")
    decoder_attention_heads: int = size(32, "attention heads of the decoder's layers; they divide d_model")
    d_model: int = size(2560, "width of the token states")
    decoder_start_token_id: int = option(
        1, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    pad_token_id: int = option(0, "id of the padding token, whose fresh vector is zero", minimum=0)
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    encoder_no_repeat_ngram_size: int | None = option(
        3, "a generated text repeats no run of this many tokens of the source; 0 or null: it may", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class BlenderbotSmallConfig(LikeBart):
    """Options of blenderbot-small."""

    model_type: ClassVar[str] = "blenderbot-small"

    max_position_embeddings: int = size(512, "the longest text in tokens, on either side")
    encoder_layers: int = layers(8, "layers of the encoder")
    encoder_ffn_dim: int = size(2048, "inner width of the encoder's feed-forward blocks")
    decoder_layers: int = layers(8, "layers of the decoder")
    decoder_ffn_dim: int = size(2048, "inner width of the decoder's feed-forward blocks")
    d_model: int = size(512, "width of the token states")
    decoder_start_token_id: int = option(
        1, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    pad_token_id: int = option(0, "id of the padding token, whose fresh vector is zero", minimum=0)
    bos_token_id: int | None = option(1, "id of the token that begins a text")


@dataclass(frozen=True, kw_only=True)
class PegasusConfig(LikeBart):
    """Options of pegasus."""

    model_type: ClassVar[str] = "pegasus"

    decoder_start_token_id: int = option(
        0, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    pad_token_id: int = option(0, "id of the padding token, whose fresh vector is zero", minimum=0)
    eos_token_id: int | None = option(1, "id of the token that ends a text")
    forced_eos_token_id: int | None = option(
        1, "id that a generated text ends with where its greatest length is reached"
    )


@dataclass(frozen=True, kw_only=True)
class MarianConfig(LikeBart):
    """Options of marian."""

    model_type: ClassVar[str] = "marian"

    vocab_size: int = size(58101, "number of tokens in the vocabulary; the encoder's, where each side has its own")
    decoder_vocab_size: int | None = size(None, "the same of the decoder, where it has its own; vocab_size if absent")
    share_encoder_decoder_embeddings: bool = option(True, "both sides have one vocabulary and one table of tokens")
    decoder_start_token_id: int = option(
        58100, "id that the decoder begins with, in generation and where it is fed shifted labels", minimum=0
    )
    pad_token_id: int = option(58100, "id of the padding token, whose fresh vector is zero", minimum=0)
    eos_token_id: int | None = option(0, "id of the token that ends a text")
    forced_eos_token_id: int | None = option(
        0, "id that a generated text ends with where its greatest length is reached"
    )

    def target_vocabulary(self) -> int:
        return self.decoder_vocab_size or self.vocab_size

    def _sizes(self, size: int) -> dict[str, Any]:
        """Both sides have one vocabulary, or it is not known which one is meant."""
        if not self.share_encoder_decoder_embeddings:
            message = f"{size} tokens of which side? Each has its own vocabulary (share_encoder_decoder_embeddings)"
            raise UserError(Fault("vocab_size", message))
        return {"vocab_size": size, "decoder_vocab_size": None if self.decoder_vocab_size is None else size}

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.share_encoder_decoder_embeddings and self.target_vocabulary() != self.vocab_size:
            yield (
                "decoder_vocab_size",
                f"{self.decoder_vocab_size} is not vocab_size {self.vocab_size}: sides that share their table have one "
                "vocabulary",
            )
