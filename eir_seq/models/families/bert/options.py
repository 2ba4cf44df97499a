"""Options of bert, and what other encoders share with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class EncoderWithoutSegments(ModelConfig):
    """Options of every encoder that is built like bert, whether or not it knows segments."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states")
    num_hidden_layers: int = layers(12, "number of layers")
    num_attention_heads: int = size(12, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(3072, "inner width of the feed-forward block")
    hidden_act: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_probs_dropout_prob: float = rate(0.1, "dropout on attention weights")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    pad_token_id: int | None = option(0, "id of the padding token")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.hidden_size % self.num_attention_heads:
            yield (
                "hidden_size",
                f"{self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}",
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"


class WithTables(Protocol):
    """What the embeddings and the key map of bert need to know, whatever mixes the tokens."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def hidden_dropout_prob(self) -> float: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def pad_token_id(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(EncoderWithoutSegments):
    """Options of an encoder that also embeds segments."""

    type_vocab_size: int = size(2, "number of segment types (token_type_ids)")


@dataclass(frozen=True, kw_only=True)
class WithPositionKinds(ModelConfig):
    """The choice between a table of positions and distances in the scores."""

    position_embedding_type: str = option(
        "absolute",
        "positions as a learned table, or learned distances that enter the scores by the query (relative_key) or by "
        "query and key (relative_key_query)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )


@dataclass(frozen=True, kw_only=True)
class WithDecoder(ModelConfig):
    """Options of an encoder that may be a decoder as well."""

    use_cache: bool = option(True, "a decoder returns its keys and values")
    is_decoder: bool = option(False, "each token sees only itself and those before")
    add_cross_attention: bool = option(False, "layers also attend to encoder_hidden_states (needs is_decoder)")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.add_cross_attention and not self.is_decoder:
            yield "add_cross_attention", "needs is_decoder: true"


@dataclass(frozen=True, kw_only=True)
class BertConfig(WithDecoder, WithPositionKinds, EncoderConfig):
    """Options of bert."""

    model_type: ClassVar[str] = "bert"

    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")


CACHE_MEANING = "for decoders only: an encoder keeps no keys and values, so both values give the same"
