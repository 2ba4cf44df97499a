"""How outputs that learn from texts alone want them corrupted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HiddenTokens:
    """Single tokens are hidden.

    Attributes:
        probability: fraction of a text's tokens that are selected.
        mean_span_length: tokens hidden side by side, on average.
        whole_words: mask all tokens of a word together.
        mask_share: fraction of the selected tokens that become the mask token.
        random_share: fraction of the selected tokens that become a random token; the rest stay unchanged.
        draws: whether the batch has a random number for each token, too.
    """

    probability: float
    mean_span_length: float
    whole_words: bool
    mask_share: float = 1.0
    random_share: float = 0.0
    draws: bool = False


@dataclass(frozen=True)
class RemovedSpans:
    """Spans become sentinels; a decoder writes them (https://arxiv.org/abs/1910.10683).

    Attributes:
        density: fraction of a text's tokens that are selected.
        mean_span_length: tokens of a span, on average.
    """

    density: float
    mean_span_length: float


@dataclass(frozen=True)
class NoisedText:
    """Spans become mask tokens, tokens and the order of sentences are lost; a decoder writes the whole text
    (https://arxiv.org/abs/1910.13461).

    Attributes:
        mask_share: share of tokens in spans that one mask token stands for.
        mean_span_length: of these spans (Poisson).
        permute_sentences: put the sentences into any order.
        delete_probability: fraction of the other tokens that are deleted.
    """

    mask_share: float
    mean_span_length: float
    permute_sentences: bool
    delete_probability: float


Corruption = HiddenTokens | RemovedSpans | NoisedText
