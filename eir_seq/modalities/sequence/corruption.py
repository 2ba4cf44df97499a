"""What pretraining takes out of texts: functions of token ids and of a generator of random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.sequence.truncation import Numbers
from eir_seq.tokenizers import Tokenizer

Flags = NDArray[np.bool_]
Generator = np.random.Generator
SENTENCE_ENDS = tuple(".!?\n\u010a。！？…")
"""How the token that ends a sentence ends; U+010A stands for a line's end in byte-level vocabularies."""


@dataclass(frozen=True)
class Vocabulary:
    """What is known of the tokens, by their ids.

    `special`: (vocabulary,) those that stay as they are. `ordinary`: ids of the others, holes left out. `mask`: of the
    token that stands for hidden ones. `sentinels`: of those that stand for spans. `begins`: (vocabulary,) those that a
    word begins with, None if that is not known. `ends`: (vocabulary,) those that a sentence ends with.
    """

    special: Flags
    ordinary: Numbers
    mask: int | None
    sentinels: tuple[int, ...]
    begins: Flags | None
    ends: Flags

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """That of a tokenizer."""
        tokens = tokenizer.tokens(range(tokenizer.vocab_size))
        special = np.zeros(len(tokens), np.bool_)
        special[list(tokenizer.all_special_ids)] = True
        return cls(
            special,
            np.flatnonzero(~special & np.array([token != "" for token in tokens])),
            tokenizer.mask_id,
            tuple(tokenizer.get_sentinel_token_ids()),
            _begins(tokens),
            np.array([token.endswith(SENTENCE_ENDS) for token in tokens]),
        )

    def words(self, ids: Numbers, candidates: Flags) -> Numbers:
        """The number of each token's word, (length,); those that are no candidates are between words."""
        assert self.begins is not None
        after = np.concatenate([[True], ~candidates[:-1]])
        return np.asarray(np.cumsum(self.begins[ids] | ~candidates | after), np.int64)


def _begins(tokens: list[str]) -> Flags | None:
    """By the sign that subwords inside of a word have (wordpiece), or the first one (the others)."""
    if any(token.startswith("##") for token in tokens):
        return np.array([not token.startswith("##") for token in tokens])
    for sign in ("\u2581", "\u0120"):
        if any(token.startswith(sign) and token != sign for token in tokens):
            return np.array([token.startswith(sign) for token in tokens])
    return None


# --------------------------------------------------------------------------------------------------------- places


def positive_parts(generator: Generator, total: int, parts: int) -> Numbers:
    """Integers >= 1 that sum to `total`, (parts,), each such series equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.asarray(np.diff(np.concatenate([[0], cuts, [total]])), np.int64)


def placed(generator: Generator, lengths: Numbers, total: int, gap: int) -> Numbers:
    """Where spans of these lengths begin among `total` tokens, `gap` tokens between two of them at least."""
    spans = len(lengths)
    room = total - int(lengths.sum()) - gap * (spans - 1)
    free = positive_parts(generator, room + spans + 1, spans + 1)[:-1] - 1
    before = np.concatenate([[0], np.cumsum(lengths[:-1] + gap)])
    return np.asarray(np.cumsum(free) + before, np.int64)


def noise_spans(generator: Generator, length: int, noise: int, mean: float, most: int) -> list[tuple[int, int]]:
    """Begin and end of spans that hold `noise` of `length` tokens, apart from each other.

    There are noise / mean of them, at most `most`, and no more than leave the other tokens in the majority.
    """
    spans = max(1, min(round(noise / mean), most, length - noise - 1))
    lengths = positive_parts(generator, noise, spans)
    starts = placed(generator, lengths, length, gap=1)
    return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))


def share_of(length: int, share: float) -> int:
    """How many of `length` tokens a share is: one at least, all but one at most; none or all of a single token."""
    return min(max(1, round(length * share)), max(1, length - 1)) if length else 0


@dataclass(frozen=True)
class Hiding:
    """Which tokens are hidden: single ones, spans, or whole words."""

    share: float
    mean_span_length: float
    whole_words: bool

    def __call__(self, generator: Generator, candidates: Flags, words: Numbers | None) -> Numbers:
        """Places of the hidden tokens, in order, all of them `candidates` (length,); `words` are their words'."""
        places = np.flatnonzero(candidates)
        count = share_of(len(places), self.share)
        if not count:
            return places[:0]
        if self.whole_words:
            assert words is not None
            return places[_whole_words(generator, words[places], count)]
        if self.mean_span_length > 1:
            spans = noise_spans(generator, len(places), count, self.mean_span_length, len(places))
            numbers: Numbers = np.concatenate([np.arange(*span) for span in spans])
            return places[numbers]
        return np.sort(generator.choice(places, count, replace=False))


def _whole_words(generator: Generator, words: Numbers, count: int) -> Flags:
    """The tokens of words in any order until there are `count`; a word that is too long for the rest is passed by."""
    names, sizes = np.unique(words, return_counts=True)
    order = generator.permutation(len(names))
    taken, left = [], count
    for word in order.tolist():
        if sizes[word] <= left:
            taken.append(word)
            left -= int(sizes[word])
        if not left:
            break
    return np.isin(words, names[taken or order[:1]])


def masked(
    generator: Generator, ids: Numbers, vocabulary: Vocabulary, *, mask_share: float, random_share: float
) -> Numbers:
    """What is in place of hidden tokens, (tokens,): mostly the mask, sometimes any token, sometimes themselves."""
    assert vocabulary.mask is not None
    lot = generator.random(len(ids))
    anything = vocabulary.ordinary[generator.integers(len(vocabulary.ordinary), size=len(ids))]
    return np.where(lot < mask_share, vocabulary.mask, np.where(lot < mask_share + random_share, anything, ids))


# ---------------------------------------------------------------------------------------------- texts from texts


class Corruption(Protocol):
    """Splits a text into what is read and the target."""

    def __call__(self, generator: Generator, ids: Numbers) -> tuple[Numbers, Numbers]:
        """Ids without the special tokens of a format to source and target; neither is longer than the text, but for
        texts of one or two tokens.
        """

    def target_lengths(self, lengths: NDArray[Any]) -> NDArray[Any]:
        """Tokens of the targets of texts of these lengths, at most."""


@dataclass(frozen=True)
class SpanCorruption:
    """Spans are taken out, and written after the sentinels that stand for them (T5, section 3.1.4).

    A further sentinel ends the target. Spans are longer where there are not as many sentinels.
    """

    density: float
    mean_span_length: float
    sentinels: tuple[int, ...]

    def __call__(self, generator: Generator, ids: Numbers) -> tuple[Numbers, Numbers]:
        """The text with sentinels, and the spans with the same."""
        source: list[Any] = []
        target: list[Any] = []
        if not len(ids):
            return ids, np.array(self.sentinels[:1])
        noise, after = share_of(len(ids), self.density), 0
        spans = noise_spans(generator, len(ids), noise, self.mean_span_length, len(self.sentinels) - 1)
        for sentinel, (start, stop) in zip(self.sentinels, spans, strict=False):
            source += [ids[after:start], [sentinel]]
            target += [[sentinel], ids[start:stop]]
            after = stop
        final = [self.sentinels[len(spans)]]
        return np.concatenate([*source, ids[after:]]), np.concatenate([*target, final])

    def target_lengths(self, lengths: NDArray[Any]) -> NDArray[Any]:
        """Noise, a sentinel per span, the final one, and what frames them."""
        noise = np.maximum(1, np.round(lengths * self.density))
        found: NDArray[Any] = (noise + np.maximum(1, np.round(noise / self.mean_span_length)) + 3).astype(np.int64)
        return found


@dataclass(frozen=True)
class Denoising:
    """Sentences change places, one mask stands for each span, tokens are lost; the target is the text (BART, 2.2).

    Lengths of spans are drawn from Poisson's distribution; a span of no token is a mask that stands for nothing.
    """

    share: float
    mean_span_length: float
    permute_sentences: bool
    delete_probability: float
    mask: int
    ends: Flags

    def __call__(self, generator: Generator, ids: Numbers) -> tuple[Numbers, Numbers]:
        """The noisy text, and the text."""
        source = self._permuted(generator, ids) if self.permute_sentences else ids
        if self.share and len(ids):
            source = self._infilled(generator, source)
        if self.delete_probability:
            lost = generator.random(len(source)) < self.delete_probability
            kept = source[~lost | (source == self.mask)]
            source = kept if len(kept) else source[:1]
        return source, ids

    def target_lengths(self, lengths: NDArray[Any]) -> NDArray[Any]:
        """Those of the texts."""
        return lengths

    def _permuted(self, generator: Generator, ids: Numbers) -> Numbers:
        ends = np.flatnonzero(self.ends[ids]) + 1
        sentences = [part for part in np.split(ids, ends) if len(part)]
        if len(sentences) < 2:
            return ids
        return np.concatenate([sentences[i] for i in generator.permutation(len(sentences))])

    def _infilled(self, generator: Generator, ids: Numbers) -> Numbers:
        noise = share_of(len(ids), self.share)
        lengths: list[int] = []
        empty = 0
        while (left := noise - sum(lengths)) > 0:
            drawn = int(generator.poisson(self.mean_span_length))
            if drawn:
                lengths.append(min(drawn, left))
            else:
                empty += 1
        spans = np.array(lengths)
        starts = placed(generator, spans, len(ids), gap=0)
        hidden, first = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.bool_)
        hidden[np.concatenate([np.arange(a, a + b) for a, b in zip(starts, spans, strict=True)])] = True
        first[starts] = True
        filled = np.where(first, self.mask, ids)[~hidden | first]
        empty = min(empty, len(ids) - len(filled))  # the text gets no longer
        return np.insert(filled, generator.integers(len(filled) + 1, size=empty), self.mask)


def require_tokens(
    vocabulary: Vocabulary, place: str, kind: str, *, mask: bool = False, sentinels: bool = False, words: bool = False
) -> None:
    """Raise `UserError` for a tokenizer without what an output of this kind needs."""
    if mask and vocabulary.mask is None:
        raise UserError(Fault(place, f"has no mask token, which {kind} needs"))
    if sentinels and len(vocabulary.sentinels) < 2:
        raise UserError(Fault(place, f"has no sentinels (<extra_id_0>, <extra_id_1> ...), which {kind} needs"))
    if words and vocabulary.begins is None:
        raise UserError(Fault(place, f"does not tell where words begin, which whole_words of {kind} needs"))
