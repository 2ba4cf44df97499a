"""Options of reformer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.options import ACTIVATIONS, ModelConfig, option, rate, size


@dataclass(frozen=True, kw_only=True)
class ReformerConfig(ModelConfig):
    """Options of reformer."""

    model_type: ClassVar[str] = "reformer"
    aliases = {"local_chunk_length": "local_attn_chunk_length"}

    vocab_size: int = size(320, "number of tokens in the vocabulary")
    hidden_size: int = size(256, "width of each of the two streams of token states")
    num_attention_heads: int = size(12, "attention heads per layer")
    attention_head_size: int = size(64, "width of a head")
    feed_forward_size: int = size(512, "inner width of the feed-forward block")
    hidden_act: str = option("relu", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.05, "dropout on embeddings and on the output of every sublayer")
    attn_layers: list[str] = option(
        ["local", "lsh", "local", "lsh", "local", "lsh"],
        "kind of attention of each layer: within chunks of the text (local), or of tokens with like hashes (lsh)",
    )
    local_attn_chunk_length: int = size(64, "tokens of a chunk in layers of local attention")
    local_num_chunks_before: int = option(1, "preceding chunks that a token attends to there", minimum=0)
    local_num_chunks_after: int = option(0, "following chunks that a token attends to there", minimum=0)
    local_attention_probs_dropout_prob: float = rate(0.05, "dropout on attention weights there")
    lsh_attn_chunk_length: int = size(64, "tokens of a chunk in layers of attention by hashes")
    lsh_num_chunks_before: int = option(1, "preceding chunks that a token attends to there", minimum=0)
    lsh_num_chunks_after: int = option(0, "following chunks that a token attends to there", minimum=0)
    lsh_attention_probs_dropout_prob: float = rate(0.0, "dropout on attention weights there")
    num_hashes: int = size(1, "how often tokens are hashed; more hashes miss fewer of the keys that matter")
    num_buckets: int | list[int] | None = option(
        None, "different hashes, even; or factors of it, each even; chosen by the length if absent", minimum=2
    )
    hash_seed: int | None = option(None, "seed of the hashes; new hashes at each call if absent", minimum=0)
    axial_pos_embds: bool = option(True, "a position's vector is made of one per axis of axial_pos_shape")
    axial_pos_shape: list[int] = option([64, 64], "how positions are laid out over axes", minimum=1)
    axial_pos_embds_dim: list[int] = option(
        [64, 192], "widths of the vectors of each axis; their sum is hidden_size", minimum=1
    )
    axial_norm_std: float = option(1.0, "standard deviation of those when fresh (normal distribution)", minimum=0.0)
    max_position_embeddings: int = size(4096, "the longest text in tokens; rows of the table, where it has no axes")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    is_decoder: bool = option(False, "each token sees only itself and those before; task causal-lm sets it")
    use_cache: bool = option(
        True, "of published files; a text that grows is read again here, as new tokens change all chunks"
    )
    chunk_size_lm_head: int = option(0, "tokens that the language-model head scores at once; 0: all", minimum=0)
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")
    tie_word_embeddings: bool = option(
        False, "cannot be: the head reads both streams, twice the width of the token table", choices=(False,)
    )
    pad_token_id: int = option(0, "id of the padding token", minimum=0)
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    @property
    def width(self) -> int:
        """Width of the states that heads read: of both streams."""
        return 2 * self.hidden_size

    def for_task(self, task: str) -> Self:
        """Whether it is a decoder is the head's to decide.

        Raises:
            UserError: tokens of a decoder would attend to chunks after their own.
        """
        if task == "causal-lm":
            after = [name for name in ("local_num_chunks_after", "lsh_num_chunks_after") if getattr(self, name)]
            if after:
                raise UserError(
                    *(Fault(name, f"{getattr(self, name)}: a decoder sees 0 chunks after") for name in after)
                )
        return replace(self, is_decoder=task == "causal-lm") if task in ("causal-lm", "masked-lm") else self

    def position_limit(self) -> int | None:
        longest = self.max_position_embeddings
        return min(longest, math.prod(self.axial_pos_shape)) if self.axial_pos_embds else longest

    def chunk_lengths(self) -> tuple[int, ...]:
        """Tokens of a chunk of each layer."""
        own = {"local": self.local_attn_chunk_length, "lsh": self.lsh_attn_chunk_length}
        return tuple(own[kind] for kind in self.attn_layers)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if not self.attn_layers:
            yield "attn_layers", "is empty: there are no layers"
        for kind in sorted(set(self.attn_layers) - {"local", "lsh"}):
            yield "attn_layers", f"{kind!r} is not one of 'local', 'lsh'{nearest(kind, ('local', 'lsh'))}"
        if self.axial_pos_embds and len(self.axial_pos_shape) != len(self.axial_pos_embds_dim):
            yield "axial_pos_embds_dim", f"needs as many widths as axial_pos_shape has axes: {self.axial_pos_shape}"
        elif self.axial_pos_embds and sum(self.axial_pos_embds_dim) != self.hidden_size:
            yield "axial_pos_embds_dim", f"{self.axial_pos_embds_dim} do not sum to hidden_size {self.hidden_size}"
        buckets = self.num_buckets
        if any(count % 2 for count in ([buckets] if isinstance(buckets, int) else buckets or [])):
            yield "num_buckets", f"{buckets}: each number must be even"
