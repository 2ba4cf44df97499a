"""Options of bert, roberta and distilbert, and what other encoders share with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

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
    initializer_range: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
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


@dataclass(frozen=True, kw_only=True)
class CountedPositions(EncoderConfig):
    """Positions are counted over real tokens, from the number behind `pad_token_id` on."""

    max_position_embeddings: int = size(
        512, "rows of the position table; a text has at most this many tokens less pad_token_id + 1"
    )
    pad_token_id: int | None = option(1, "id of the padding token; positions are counted from the next number on")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.pad_token_id is None:
            yield "pad_token_id", "is needed: positions are counted from it"
        elif self.max_position_embeddings <= self.pad_token_id + 1:
            yield "max_position_embeddings", f"must exceed pad_token_id + 1 = {self.pad_token_id + 1}"

    def position_limit(self) -> int | None:
        return self.max_position_embeddings - (self.pad_token_id or 0) - 1


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(CountedPositions, BertConfig):
    """Options of roberta: bert's, with other defaults and the ids of the sentence marks."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = size(50265, "number of tokens in the vocabulary")


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig(ModelConfig):
    """Options of distilbert."""

    model_type: ClassVar[str] = "distilbert"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"
    aliases = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    sinusoidal_pos_embds: bool = option(False, "positions are fixed sine waves instead of a learned table")
    n_layers: int = layers(6, "number of layers")
    n_heads: int = size(12, "attention heads per layer; they divide dim")
    dim: int = size(768, "width of the token states")
    hidden_dim: int = size(3072, "inner width of the feed-forward block")
    dropout: float = rate(0.1, "dropout on embeddings and in the feed-forward block")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    activation: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    initializer_range: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    qa_dropout: float = rate(0.1, "dropout of the question-answering head")
    seq_classif_dropout: float = rate(0.2, "dropout of the classification head")
    pad_token_id: int | None = option(0, "id of the padding token")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.dim % self.n_heads:
            yield "dim", f"{self.dim} is not divisible by n_heads {self.n_heads}"
