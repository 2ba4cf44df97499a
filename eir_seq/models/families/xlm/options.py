"""Options of xlm and flaubert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class XLMConfig(ModelConfig):
    """Options of xlm."""

    model_type: ClassVar[str] = "xlm"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"
    aliases = {
        "hidden_size": "emb_dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "n_head": "n_heads",
        "n_layer": "n_layers",
        "n_words": "vocab_size",
    }

    vocab_size: int = size(30145, "number of tokens in the vocabulary")
    emb_dim: int = size(2048, "width of the token states; the feed-forward block is four times as wide inside")
    n_layers: int = layers(12, "number of layers")
    n_heads: int = size(16, "attention heads per layer; they divide emb_dim")
    dropout: float = rate(0.1, "dropout on embeddings, on the output of every sublayer, and in the token head")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    gelu_activation: bool = option(True, "activation of the feed-forward block: gelu, or relu if false")
    sinusoidal_embeddings: bool = option(False, "positions are fixed sinusoids instead of a learned table")
    causal: bool = option(
        False, "each token sees only the places up to its own; padding among them counts as text of zeros, as published"
    )
    asm: bool = option(False, "the language-model head is an adaptive softmax, whose logits are log-probabilities")
    asm_cutoffs: list[int] = option(
        [8000, 20000], "ids at which the clusters of rarer tokens of an adaptive softmax begin"
    )
    asm_div_value: float = option(
        4.0, "each such cluster has states that are narrower by this factor than those of the one before", minimum=1.0
    )
    n_langs: int = size(1, "number of languages (langs)")
    use_lang_emb: bool = option(True, "a vector per language is added to each token's, where there are several")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    embed_init_std: float = option(2048**-0.5, "standard deviation of fresh embedding tables (normal)", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    init_std: float = option(0.02, "standard deviation of fresh linear layers (normal)", minimum=0.0)
    bos_index: int = option(0, "id of the token that begins a text", minimum=0)
    eos_index: int = option(1, "id of the token that ends a text", minimum=0)
    pad_index: int = option(
        2,
        "id of the padding token: its vector does not learn, and without attention_mask and lengths a text is as long "
        "as it has other tokens",
        minimum=0,
    )
    unk_index: int = option(3, "id of the token for what the vocabulary lacks", minimum=0)
    mask_index: int = option(5, "id of the token that hides others in pretraining", minimum=0)
    is_encoder: bool = option(
        True, "false is refused: there is no published decoder of this architecture", choices=(True,)
    )
    summary_type: str = option(
        "first",
        "state of a text that a classification head reads: that of the first place, of the last, or the mean, padding "
        "counted in; cls_index is the last too, as published heads get no position",
        choices=("last", "first", "mean", "cls_index"),
    )
    summary_use_proj: bool = option(
        True,
        "a classification head projects that state; false is refused: published heads have no other linear layer",
        choices=(True,),
    )
    summary_activation: str | None = option(None, "activation after that projection", choices=ACTIVATIONS)
    summary_proj_to_labels: bool = option(
        True,
        "that projection has the width of the classes; false is refused: published heads predict by it",
        choices=(True,),
    )
    summary_first_dropout: float = rate(0.1, "dropout before that projection")
    start_n_top: int = size(5, "begins of answers that the searching question-answering head follows")
    end_n_top: int = size(5, "ends of answers that it gives for each begin")
    mask_token_id: int | None = option(0, "id of the token whose place is predicted when text is generated")
    lang_id: int = option(0, "number of the language that text is generated in, where there are several", minimum=0)
    pad_token_id: int | None = option(2, "padding id that batches are made with; the model itself uses pad_index")
    bos_token_id: int | None = option(0, "id of the token that begins a generated text")
    tie_word_embeddings: bool = option(
        True, "one table for token embeddings and the language-model head; an adaptive softmax has its own in any case"
    )

    @property
    def tells_languages(self) -> bool:
        """Whether there is a table of languages."""
        return self.use_lang_emb and self.n_langs > 1

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.emb_dim % self.n_heads:
            yield "emb_dim", f"{self.emb_dim} is not divisible by n_heads {self.n_heads}"
        if self.pad_index >= self.vocab_size:
            yield "pad_index", f"{self.pad_index} is outside the vocabulary of {self.vocab_size}"
        if self.tells_languages and self.lang_id >= self.n_langs:
            yield "lang_id", f"{self.lang_id} is none of {self.n_langs} languages, counted from 0"
        if not self.asm:
            return
        begins = [0, *self.asm_cutoffs, self.vocab_size]
        if not self.asm_cutoffs or any(begin >= end for begin, end in pairwise(begins)):
            yield "asm_cutoffs", f"{self.asm_cutoffs} must rise between 0 and the vocabulary of {self.vocab_size}"
        elif self.emb_dim < self.asm_div_value ** len(self.asm_cutoffs):
            yield "asm_div_value", f"{self.asm_div_value} leaves no width of emb_dim {self.emb_dim} to the last cluster"


@dataclass(frozen=True, kw_only=True)
class FlaubertConfig(XLMConfig):
    """Options of flaubert: xlm's, and two of its layers."""

    model_type: ClassVar[str] = "flaubert"

    pre_norm: bool = option(False, "pre-norm instead of post-norm; no norm follows the last layer")
    layerdrop: float = rate(0.0, "probability of skipping a layer in training (LayerDrop)")
