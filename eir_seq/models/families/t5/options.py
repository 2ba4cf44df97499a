"""Options of t5 and mt5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class LikeT5(ModelConfig):
    """Options that all of them have."""

    aliases = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
        "layer_norm_eps": "layer_norm_epsilon",
    }

    vocab_size: int = size(32128, "number of tokens in the vocabulary")
    d_model: int = size(512, "width of the token states")
    d_kv: int = size(64, "width of each attention head; heads need not add up to d_model")
    d_ff: int = size(2048, "inner width of the feed-forward block")
    num_layers: int = layers(6, "layers of the encoder")
    num_decoder_layers: int | None = layers(None, "layers of the decoder; as many as the encoder's if absent")
    num_heads: int = size(8, "attention heads per layer")
    relative_attention_num_buckets: int = option(32, "classes of distances between tokens", minimum=2)
    relative_attention_max_distance: int = size(128, "distance from which on all tokens share the last bucket")
    dropout_rate: float = rate(0.1, "dropout everywhere")
    layer_norm_epsilon: float = option(1e-6, "added to the mean square in RMS norms", minimum=0.0)
    initializer_factor: float = option(1.0, "factor on the standard deviation of fresh weights", minimum=0.0)
    is_encoder_decoder: bool = option(True, "encoder and decoder; for the encoder alone use its task", choices=(True,))
    use_cache: bool = option(True, "the decoder returns its keys and values")
    pad_token_id: int | None = option(0, "id of the padding token")
    eos_token_id: int | None = option(1, "id of the token that ends a text")
    decoder_start_token_id: int | None = option(
        None, "id that the decoder begins with when it is fed shifted labels; pad_token_id if absent"
    )

    def activation(self) -> str:
        """The activation of the feed-forward block."""
        raise NotImplementedError

    def gated(self) -> bool:
        """Whether the feed-forward block has a gate."""
        return False

    def layers(self, *, decoder: bool) -> int:
        """Layers of one side."""
        return (self.num_decoder_layers or self.num_layers) if decoder else self.num_layers


@dataclass(frozen=True, kw_only=True)
class T5Config(LikeT5):
    """Options of t5."""

    model_type: ClassVar[str] = "t5"

    classifier_dropout: float = rate(0.0, "dropout of the classification head")
    feed_forward_proj: str = option("relu", "activation of the feed-forward block, after 'gated-' if it has a gate")

    def activation(self) -> str:
        """The activation's name, without the mark of the gate."""
        name = self.feed_forward_proj.removeprefix("gated-")
        return "gelu_new" if self.gated() and name == "gelu" else name

    def gated(self) -> bool:
        """Whether the feed-forward block has a gate."""
        return self.feed_forward_proj.startswith("gated-")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.feed_forward_proj.removeprefix("gated-") not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            yield "feed_forward_proj", f"{self.feed_forward_proj!r} is not one of {allowed}, or one after 'gated-'"


@dataclass(frozen=True, kw_only=True)
class MT5Config(T5Config):
    """Options of mt5: t5 with a gate in the feed-forward block and its own language-model head."""

    model_type: ClassVar[str] = "mt5"

    vocab_size: int = size(250112, "number of tokens in the vocabulary")
    d_ff: int = size(1024, "inner width of the feed-forward block")
    num_layers: int = layers(8, "layers of the encoder")
    num_heads: int = size(6, "attention heads per layer")
    feed_forward_proj: str = option(
        "gated-gelu", "activation of the feed-forward block, after 'gated-' if it has a gate"
    )
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    decoder_start_token_id: int | None = option(0, "id that the decoder begins with; pad_token_id if null")
    tokenizer_class: str = option("T5Tokenizer", "class of the published tokenizer, for those who read config.json")
