"""Options of mpt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.families.bloom.options import without_upstream
from eir_seq.models.options import ModelConfig, Options, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class MptAttentionConfig(Options):
    """What `attn_config` of mpt may hold."""

    model_type: ClassVar[str] = "mpt"

    attn_type: str = option(
        "multihead_attention", "kind of attention", choices=("multihead_attention", "multiquery_attention")
    )
    attn_pdrop: float = rate(0.0, "dropout on attention weights")
    attn_impl: str = option(
        "torch", "kernel of published code; results do not change", choices=("torch", "flash", "triton")
    )
    clip_qkv: float | None = option(None, "bound of queries, keys and values; none if 0 or absent", minimum=0.0)
    softmax_scale: float | None = option(
        None, "factor on the scores; one over the square root of the head size if absent"
    )
    prefix_lm: bool = option(False, "tokens of a prefix see each other")
    qk_ln: bool = option(False, "queries and keys are normed")
    attn_uses_sequence_id: bool = option(False, "tokens see only those of their own sequence")
    alibi: bool = option(True, "scores fall with the distance")
    alibi_bias_max: int = size(8, "in published models the steepest slopes are as with 8, whatever this says")

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("attn_type", "prefix_lm", "qk_ln", "attn_uses_sequence_id", "alibi"):
            works, value = getattr(MptAttentionConfig, name), getattr(self, name)
            if value != works:
                yield name, without_upstream(value, works)


@dataclass(frozen=True, kw_only=True)
class MptConfig(ModelConfig):
    """Options of mpt."""

    model_type: ClassVar[str] = "mpt"
    max_positions_option: ClassVar[str | None] = "max_seq_len"
    aliases = {"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    parts: ClassVar = {"attn_config": MptAttentionConfig}

    d_model: int = size(2048, "width of the token states")
    n_heads: int = size(16, "attention heads per layer; they divide d_model")
    n_layers: int = layers(24, "number of layers")
    expansion_ratio: int = size(4, "in published models feed-forward blocks are 4 times as wide, whatever this says")
    max_seq_len: int = size(2048, "the longest text in tokens")
    vocab_size: int = size(50368, "number of tokens in the vocabulary")
    resid_pdrop: float = rate(0.0, "dropout on the output of every sublayer")
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    emb_pdrop: float = rate(0.0, "dropout on embeddings")
    learned_pos_emb: bool = option(True, "of models without alibi; none of these has a position table")
    attn_config: dict[str, Any] | None = option(None, "options of attention; their defaults if absent")
    init_device: str = option("cpu", "where published code made fresh weights; the caller's device counts here")
    logit_scale: float | None = option(None, "factor on the scores of the language-model head")
    no_bias: bool = option(True, "linear layers and norms have no biases")
    verbose: int = option(0, "how much published code logged", minimum=0)
    embedding_fraction: float = option(1.0, "factor on the gradients of embeddings")
    norm_type: str = option(
        "low_precision_layernorm",
        "name of the layer norm; both are the same",
        choices=("low_precision_layernorm", "layernorm"),
    )
    use_cache: bool = option(False, "published models always return keys and values; here a call requests them")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")

    @property
    def attention(self) -> MptAttentionConfig:
        """`attn_config` with its defaults."""
        return MptAttentionConfig(**(self.attn_config or {}))

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model % self.n_heads:
            yield "d_model", f"{self.d_model} is not divisible by n_heads {self.n_heads}"
        for name in ("no_bias", "embedding_fraction"):
            works, value = getattr(MptConfig, name), getattr(self, name)
            if value != works:
                yield name, without_upstream(value, works)
