"""Options of mega."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from eir_seq.errors import Fault, UserError
from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size

NO_CHUNKS = -1


@dataclass(frozen=True, kw_only=True)
class MegaConfig(ModelConfig):
    """Options of mega."""

    model_type: ClassVar[str] = "mega"

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    hidden_size: int = size(128, "width of the token states")
    num_hidden_layers: int = layers(4, "number of layers")
    intermediate_size: int = size(256, "width of the values of the attention")
    ema_projection_size: int = size(16, "numbers per channel that the moving average remembers")
    bidirectional: bool = option(
        True, "the moving average runs in both directions; a decoder cannot, task causal-lm sets it to false"
    )
    shared_representation_size: int = size(64, "width of queries and keys; even, if relative_positional_bias is rotary")
    use_chunking: bool = option(
        False, "tokens attend only within their chunk, so that the cost of attention is linear in the length"
    )
    chunk_size: int = option(
        NO_CHUNKS,
        "tokens of a chunk; unless -1, simple biases cover that many distances, with or without chunks",
        minimum=NO_CHUNKS,
    )
    truncation: int | None = size(None, "tokens that the moving average reaches in a direction; all if absent")
    normalize_before_mega: bool = option(True, "norm before average and attention, not after their residual sum")
    normalization_type: str = option(
        "scalenorm",
        "kind of all norms; those over batches count real tokens only, syncbatchnorm of all processes together",
        choices=("scalenorm", "layernorm", "rmsnorm", "batchnorm", "syncbatchnorm"),
    )
    norm_affine: bool = option(True, "norms have learned scales (and shifts)")
    activation: str = option(
        "silu", "activation of values, candidates and the feed-forward block", choices=(*ACTIVATIONS, "gelu_accurate")
    )
    attention_activation: str = option(
        "softmax", "how scores become attention weights", choices=("softmax", "laplace", "relu2")
    )
    dropout_prob: float = rate(0.1, "dropout on the moving average and on the output of every sublayer")
    hidden_dropout_prob: float = rate(0.1, "dropout on the values of the attention")
    attention_probs_dropout_prob: float = rate(0.1, "dropout on attention weights")
    use_feature_dropout: bool = option(False, "dropout of states is of whole channels of a text")
    use_normalized_ffn: bool = option(True, "layers have a feed-forward block")
    nffn_hidden_size: int = size(256, "inner width of the feed-forward block")
    normalize_before_ffn: bool = option(True, "norm before the feed-forward block, not after its residual sum")
    nffn_activation_dropout_prob: float = rate(0.1, "dropout in the feed-forward block")
    max_positions: int = size(
        2048, "distances of simple biases: the longest text in tokens, without chunks; rotary ones have no bound"
    )
    add_token_type_embeddings: bool = option(False, "segments (token_type_ids) have vectors")
    type_vocab_size: int = size(2, "number of segment types, where they have vectors")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    ema_delta_alpha_range: float = option(0.2, "that of damping and decay of the moving average", minimum=0.0)
    ema_beta_range: float = option(0.02, "that of its expansion, around 1 and -1 in turn", minimum=0.0)
    ema_gamma_omega_range: float = option(1.0, "that of its projection and of its residual weight", minimum=0.0)
    pad_token_id: int | None = option(1, "id of the padding token")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
    relative_positional_bias: str = option(
        "rotary",
        "what distances add to scores: a learned number each (simple), or rotated vectors (rotary)",
        choices=("rotary", "simple"),
    )
    is_decoder: bool = option(False, "each token sees only itself and those before; task causal-lm sets it")
    use_cache: bool = option(True, "a decoder returns its averages, keys and values")
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")
    add_lm_hidden_dense_layer: bool = option(True, "language-model heads have a hidden layer")

    def for_task(self, task: str) -> Self:
        """A decoder whose average runs in one direction is the head's to want.

        Raises:
            UserError: tokens of a decoder would be averaged with those after them.
        """
        if task == "causal-lm":
            return replace(self, is_decoder=True, bidirectional=False)
        if self.is_decoder and self.bidirectional:
            why = "is_decoder: true needs false, or each token would be averaged with those after it"
            raise UserError(Fault("bidirectional", why))
        return self

    def distance_limit(self) -> int:
        """Tokens of the longest text, or chunk, that simple biases reach over."""
        return self.max_positions if self.chunk_size == NO_CHUNKS else self.chunk_size

    def position_limit(self) -> int | None:
        return None if self.use_chunking or self.relative_positional_bias == "rotary" else self.distance_limit()

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.chunk_size == 0 or (self.use_chunking and self.chunk_size == NO_CHUNKS):
            yield (
                "chunk_size",
                f"{self.chunk_size}: a chunk has 1 token or more"
                + (" (use_chunking is true)" if self.use_chunking else ", -1 stands for none"),
            )
        if self.relative_positional_bias == "rotary" and self.shared_representation_size % 2:
            yield "shared_representation_size", f"{self.shared_representation_size} is odd: rotary biases rotate pairs"
        elif self.relative_positional_bias == "simple" and self.chunk_size > self.max_positions:
            yield (
                "chunk_size",
                f"{self.chunk_size} exceeds max_positions {self.max_positions}, which simple biases know",
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"
