"""Options of gpt2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class GPTSizes(ModelConfig):
    """Options that gpt2 and its successors share, by gpt2's names for them."""

    max_positions_option: ClassVar[str | None] = "n_positions"
    aliases = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = size(50257, "number of tokens in the vocabulary")
    n_positions: int = size(1024, "rows of the position table: the longest text in tokens")
    n_embd: int = size(768, "width of the token states")
    n_layer: int = layers(12, "number of layers")
    n_head: int = size(12, "attention heads per layer; they divide n_embd")
    n_inner: int | None = size(None, "inner width of the feed-forward block; four times n_embd if absent")
    activation_function: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    resid_pdrop: float = rate(0.1, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.1, "dropout on embeddings")
    attn_pdrop: float = rate(0.1, "dropout on attention weights")
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.n_embd % self.n_head:
            yield "n_embd", f"{self.n_embd} is not divisible by n_head {self.n_head}"


@dataclass(frozen=True, kw_only=True)
class LikeGPT2(GPTSizes):
    """Options that gpt2 shares with decoders built like it."""

    scale_attn_weights: bool = option(True, "scores are divided by the square root of the head size")
    scale_attn_by_inverse_layer_idx: bool = option(False, "scores of layer i are also divided by i + 1")
    reorder_and_upcast_attn: bool = option(False, "scores are computed in float32 under mixed precision")
    add_cross_attention: bool = option(False, "layers also attend to encoder_hidden_states")


@dataclass(frozen=True, kw_only=True)
class SummaryOfChoices(ModelConfig):
    """Options of the head that scores choices by one state of each."""

    summary_type: str = option(
        "cls_index",
        "state by which a choice is scored (double-heads): that of the first place, of the last, or the mean, padding "
        "counted in; with cls_index that of the place mc_token_ids, by default the last",
        choices=("last", "first", "mean", "cls_index"),
    )
    summary_use_proj: bool = option(True, "that state is projected; else it is itself the scores of its choice")
    summary_activation: str | None = option(None, "activation after that projection", choices=("tanh",))
    summary_proj_to_labels: bool = option(True, "that projection gives one score per choice, not n_embd")
    summary_first_dropout: float = rate(0.1, "dropout before that projection")


@dataclass(frozen=True, kw_only=True)
class GPT2Config(LikeGPT2, SummaryOfChoices):
    """Options of gpt2."""

    model_type: ClassVar[str] = "gpt2"

    bos_token_id: int | None = option(50256, "id of the token that begins a text")
    eos_token_id: int | None = option(50256, "id of the token that ends a text")
