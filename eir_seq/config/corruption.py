"""How outputs that learn from texts alone want them corrupted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HiddenTokens:
    """Single tokens are hidden.

    Attributes:
        probability: share of a text's tokens that are hidden.
        mean_span_length: tokens hidden side by side, on average.
        whole_words: hide all tokens of a word, or none.
        mask_share: share of the hidden tokens that become the mask token.
        random_share: share of them that become any token; the rest stays.
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
        density: share of a text's tokens that are taken out.
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
        delete_probability: share of the other tokens that are left out.
    """

    mask_share: float
    mean_span_length: float
    permute_sentences: bool
    delete_probability: float


Corruption = HiddenTokens | RemovedSpans | NoisedText
