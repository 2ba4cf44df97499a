"""Options of xlnet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from eir_seq.errors import Fault, UserError
from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class XLNetConfig(ModelConfig):
    """Options of xlnet."""

    model_type: ClassVar[str] = "xlnet"
    aliases = {
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    d_model: int = size(1024, "width of the token states")
    n_layer: int = layers(24, "number of layers")
    n_head: int = size(16, "attention heads per layer; they divide d_model")
    d_inner: int = size(4096, "inner width of the feed-forward block")
    ff_activation: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    untie_r: bool = option(
        True,
        "each layer has its own biases of queries; false, one set for all layers, is refused: the reference "
        "implementation in torch gives each layer its own whatever this says",
        choices=(True,),
    )
    attn_type: str = option(
        "bi", "a token sees all tokens (bi), or itself and those before (uni)", choices=("bi", "uni")
    )
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    dropout: float = rate(0.1, "dropout on embeddings, distances, attention weights, sublayers and the last states")
    mem_len: int | None = option(512, "states of earlier tokens that mems keep at most; null or 0: all", minimum=0)
    reuse_len: int | None = option(
        None, "only this many tokens from the begin of a text enter mems; null or 0: all", minimum=0
    )
    use_mems_eval: bool = option(True, "mems are returned in evaluation, unless use_mems says otherwise")
    use_mems_train: bool = option(False, "mems are returned in training, unless use_mems says otherwise")
    bi_data: bool = option(False, "the second half of a batch counts distances backwards; batches are even")
    clamp_len: int = option(-1, "larger distances count as this one; below 1: no clamping", minimum=-1)
    same_length: bool = option(
        False, "each token sees equally many tokens, those of mems included (needs attn_type: uni)"
    )
    summary_type: str = option(
        "last",
        "state of a text that a classification head reads: that of the last place, of the first, or the mean; "
        "cls_index is the last too, as published heads get no position",
        choices=("last", "first", "mean", "cls_index"),
    )
    summary_use_proj: bool = option(True, "a classification head projects that state first")
    summary_activation: str | None = option("tanh", "activation after that projection", choices=ACTIVATIONS)
    summary_proj_to_labels: bool = option(
        False,
        "true in transformers, but published heads apply another layer after the projection, which reads d_model "
        "channels: a model with such a head takes false only",
    )
    summary_last_dropout: float = rate(0.1, "dropout after that activation")
    start_n_top: int = size(5, "begins of answers that the searching question-answering head follows")
    end_n_top: int = size(5, "ends of answers that it gives for each begin")
    pad_token_id: int | None = option(5, "id of the padding token")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def for_task(self, task: str) -> Self:
        """Checks the summary of heads that have one.

        Raises:
            UserError: the projection has not the width that the layer after it reads.
        """
        if task in ("sequence-classification", "multiple-choice") and self.summary_proj_to_labels:
            why = f"true cannot be with task {task!r}: after the projection a layer reads d_model channels; set false"
            raise UserError(Fault("summary_proj_to_labels", why))
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.d_model % self.n_head:
            yield "d_model", f"{self.d_model} is not divisible by n_head {self.n_head}"
        if self.d_model % 2:
            yield "d_model", f"{self.d_model} must be even: distances are sines and cosines"
        if self.same_length and self.attn_type != "uni":
            yield "same_length", "needs attn_type: uni"
