"""Options of t5gemma, and of each of its stacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from eir_seq.errors import Fault, UserError
from eir_seq.models.options import ACTIVATIONS, ModelConfig, Options, layers, option, rate, size

SPECIAL = ("pad_token_id", "eos_token_id", "bos_token_id")
SHARED = ("vocab_size", "attention_dropout")
"""Options of the whole that a stack may repeat but not change."""


@dataclass(frozen=True, kw_only=True)
class T5GemmaModuleConfig(Options):
    """Options of one stack of t5gemma, its encoder or its decoder."""

    model_type: ClassVar[str] = "t5_gemma_module"

    vocab_size: int = size(256000, "number of tokens in the vocabulary, that of the whole")
    hidden_size: int = size(2304, "width of the token states")
    intermediate_size: int = size(9216, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(26, "number of layers")
    num_attention_heads: int = size(8, "attention heads per layer")
    num_key_value_heads: int | None = size(4, "heads of keys and values, shared by the others; as many if null")
    head_dim: int = size(256, "channels of a head; heads need not add up to hidden_size")
    hidden_activation: str = option("gelu_pytorch_tanh", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(8192, "the longest text in tokens")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    rms_norm_eps: float = option(1e-6, "added to the mean square in norms", minimum=0.0)
    use_cache: bool = option(True, "a decoder returns its keys and values")
    pad_token_id: int | None = option(0, "id of the padding token; the decoder's counts where the whole names none")
    eos_token_id: int | list[int] | None = option(1, "id of the token that ends a text; likewise")
    bos_token_id: int | None = option(2, "id of the token that begins a text; likewise")
    tie_word_embeddings: bool = option(
        True, "of the decoder, where that of the whole is false: the head has the encoder's table instead"
    )
    rope_theta: float = option(10000.0, "base of the RoPE frequencies", minimum=1.0)
    attention_bias: bool = option(False, "linear layers of attention have biases")
    attention_dropout: float = rate(0.0, "dropout on attention weights, that of the whole")
    query_pre_attn_scalar: float = option(256, "scores are divided by its square root", minimum=1)
    sliding_window: int = size(4096, "window of local layers: tokens nearer than this, in a decoder those in front")
    layer_types: list[str] | None = option(
        None, "per layer, sliding_attention or full_attention; in turn, beginning with the first, if absent"
    )
    final_logit_softcapping: float | None = option(30.0, "no score of a token exceeds this; no bound if null")
    attn_logit_softcapping: float | None = option(50.0, "no score of attention exceeds this; no bound if null")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    def windows(self) -> tuple[int | None, ...]:
        """Per layer, the window; None for the whole text."""
        local = (i % 2 == 0 for i in range(self.num_hidden_layers))
        if self.layer_types is not None:
            local = (kind == "sliding_attention" for kind in self.layer_types)
        return tuple(self.sliding_window if near else None for near in local)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.num_attention_heads % self.kv_heads:
            yield "num_key_value_heads", f"{self.kv_heads} does not divide {self.num_attention_heads} heads"
        if self.head_dim % 2:
            yield "head_dim", f"{self.head_dim} is odd; RoPE rotates pairs of channels"
        for name in ("final_logit_softcapping", "attn_logit_softcapping"):
            if (bound := getattr(self, name)) is not None and bound <= 0:
                yield name, f"{bound} must exceed 0"
        if self.layer_types is None:
            return
        if len(self.layer_types) != self.num_hidden_layers:
            yield "layer_types", f"has {len(self.layer_types)} entries for {self.num_hidden_layers} layers"
        for kind in sorted({*self.layer_types} - {"full_attention", "sliding_attention"}):
            yield "layer_types", f"{kind!r} is not one of 'full_attention', 'sliding_attention'"


@dataclass(frozen=True, kw_only=True)
class T5GemmaConfig(ModelConfig):
    """Options of t5gemma: what both stacks have in common, and those of each."""

    model_type: ClassVar[str] = "t5gemma"
    parts: ClassVar = {"encoder": T5GemmaModuleConfig, "decoder": T5GemmaModuleConfig}

    encoder: dict[str, Any] | None = option(None, "options of the encoder; their defaults if absent")
    decoder: dict[str, Any] | None = option(None, "options of the decoder; those of the encoder if absent")
    is_encoder_decoder: bool = option(True, "whether classes that predict labels have a decoder, too")
    dropout_rate: float = rate(0.0, "dropout everywhere")
    classifier_dropout_rate: float = rate(0.0, "dropout before the classification layer")
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    tie_word_embeddings: bool = option(
        True,
        "one table for the decoder's tokens and the language-model head; for a separate head, false here and in "
        "decoder: false here alone gives it the encoder's table, as published code does",
    )
    vocab_size: int = size(256000, "number of tokens in the vocabulary")
    pad_token_id: int | None = option(None, "id of the padding token; the decoder's if absent")
    eos_token_id: int | list[int] | None = option(None, "id of the token that ends a text; the decoder's if absent")
    bos_token_id: int | None = option(None, "id of the token that begins a text; the decoder's if absent")

    def __post_init__(self) -> None:
        for name in SPECIAL:
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.decoder_side, name))

    @property
    def encoder_side(self) -> T5GemmaModuleConfig:
        """`encoder` with its defaults."""
        return T5GemmaModuleConfig(**(self.encoder or {}))

    @property
    def decoder_side(self) -> T5GemmaModuleConfig:
        """`decoder` with its defaults."""
        return self.encoder_side if self.decoder is None else T5GemmaModuleConfig(**self.decoder)

    @property
    def head_table(self) -> str | None:
        """The side whose table of tokens the language-model head shares; None if it has its own."""
        if self.tie_word_embeddings:
            return "decoder"
        return "encoder" if self.decoder_side.tie_word_embeddings else None

    @property
    def width(self) -> int:
        """Width of the states that labels are predicted from."""
        return (self.decoder_side if self.is_encoder_decoder else self.encoder_side).hidden_size

    def for_task(self, task: str) -> Self:
        """The encoder alone has no decoder, and texts are written by one."""
        if task == "encoder":
            return replace(self, is_encoder_decoder=False)
        if task in ("base", "seq2seq-lm") and not self.is_encoder_decoder:
            raise UserError(Fault("is_encoder_decoder", f"False, but task {task!r} has a decoder; 'encoder' has none"))
        widths = self.encoder_side.hidden_size, self.decoder_side.hidden_size
        if task == "seq2seq-lm" and self.head_table == "encoder" and widths[0] != widths[1]:
            why = (
                f"false here alone gives the head the encoder's table, of width {widths[0]}; the decoder's states have "
                f"{widths[1]}: set it in decoder too"
            )
            raise UserError(Fault("tie_word_embeddings", why))
        return self

    def position_limit(self) -> int | None:
        longest = (side.max_position_embeddings for side in (self.encoder_side, self.decoder_side))
        return min(longest)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for part in self.parts:
            given: Mapping[str, Any] = getattr(self, part) or {}
            for name in SHARED:
                if name in given and given[name] != (whole := getattr(self, name)):
                    yield part, f"{name} is {given[name]!r} there, but {whole!r} for the whole"
