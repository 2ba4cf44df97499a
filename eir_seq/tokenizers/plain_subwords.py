"""Subwords of ASCII texts: words are found byte by byte, and the library cuts each distinct one once.

A text has few distinct words beside all of its words. So ids of words are kept, and texts are put together of them.
Where each byte is a token, all texts are looked up at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE

from eir_seq.tokenizers.byte_level import byte_symbols
from eir_seq.tokenizers.plain_words import (
    WHITESPACE,
    Bytes,
    Numbers,
    Pieces,
    PlainWords,
    bytes_of,
    finds_tokens_first,
    parts_of,
    state_of,
)

WORDS_KEPT = 1 << 17
"""Distinct words whose ids are kept; after that it begins anew."""
_SPACE, _LETTER, _DIGIT, _MARK, _LEFT = 0, 1, 2, 4, 3
"""Kinds of bytes; the last is what `PlainWords` leaves to the library."""
_CONTRACTIONS = {"s": 1, "t": 1, "m": 1, "d": 1, "re": 2, "ve": 2, "ll": 2}
"""What the pattern of GPT-2 (Radford et al. 2019) has after an apostrophe, and how long it is."""


Tokenize = Callable[[list[str]], list[list[int]]]
"""The ids of words, as the model of the library reads them."""
_SYMBOLS = str.maketrans(dict(enumerate(byte_symbols())))


class GptWords(PlainWords):
    """How the byte-level pattern of GPT-2 cuts ASCII texts.

    A word is a contraction ('s), or a run of letters, digits or other marks with the space before it; of white space
    before a word, all but the last character is one, and so is that, if it is no space.
    """

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """How this tokenizer cuts; None if it cuts in another way, or changes ASCII beforehand."""
        cuts = [] if rust.pre_tokenizer is None else parts_of(state_of(rust.pre_tokenizer), "pretokenizers")
        steps = [] if rust.normalizer is None else parts_of(state_of(rust.normalizer), "normalizers")
        names = {step["type"] for step in steps}
        if len(cuts) != 1 or cuts[0]["type"] != "ByteLevel" or not {"NFC", "NFKC", "Lowercase"}.issuperset(names):
            return None
        if cuts[0]["add_prefix_space"] or not cuts[0]["use_regex"]:
            return None
        kinds = np.full(256, _LEFT, np.uint8)
        kinds[33:127] = _MARK
        kinds[[byte for byte in range(128) if chr(byte).isalpha()]] = _LETTER
        kinds[[*b"0123456789"]], kinds[[*WHITESPACE]] = _DIGIT, _SPACE
        return cls(kinds, lowercase="Lowercase" in names)

    def as_read(self, words: list[str]) -> list[str]:
        """Each byte as the character that stands for it."""
        return [word.translate(_SYMBOLS) for word in words]

    def _found(self, given: Bytes, kinds: Bytes, firsts: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        size = len(given)
        first = np.zeros(size + 1, bool)
        first[firsts], first[size] = True, True
        spaces, blanks = kinds == _SPACE, given == ord(" ")
        begins = np.ones(size, bool)
        begins[1:] = kinds[1:] != kinds[:-1]
        begins[1:] &= ~(blanks[:-1] & ~spaces[1:])  # the space before a word is its first character
        last = np.zeros(size, bool)
        last[:-1] = spaces[:-1] & ~spaces[1:]
        begins |= (last & ~first[1:]) | first[:-1]
        kept = kinds != _LEFT
        begins &= kept
        for at in np.flatnonzero((given == ord("'")) & begins).tolist():
            letters = given[at + 1 : at + 3].tobytes().decode("latin-1")
            length = _CONTRACTIONS.get(letters[:1]) or _CONTRACTIONS.get(letters)
            if length is not None and not first[at + 1 : at + 1 + length].any():
                begins[at + 1] = False
                begins[at + 1 + length : at + 2 + length] = True
        return kept, begins & kept


class PlainSubwords:
    """Ids of the subwords of ASCII texts.

    Args:
        words: how texts are cut into words.
        tokenize: the ids of words, by the library.
    """

    def __init__(self, words: PlainWords, tokenize: Tokenize) -> None:
        self._words, self._tokenize = words, tokenize
        self._begin()

    def _begin(self) -> None:
        self._places: dict[str, int] = {}
        self._ids = np.empty(0, np.int32)
        self._bounds = np.zeros(1, np.int64)

    @classmethod
    def of(cls, rust: RustTokenizer, tokenize: Tokenize) -> Self | None:
        """That of a tokenizer whose words do not depend on each other or on chance; None for any other."""
        words = GptWords.of(rust) or PlainWords.of(rust)
        drawn = getattr(rust.model, "dropout", None)
        return None if words is None or drawn or finds_tokens_first(rust) else cls(words, tokenize)

    def encode(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], Pieces]:
        """Ids of all tokens, ``(tokens,)``, and where those of each text lie."""
        pieces = self._words.cut(texts)
        codes = pieces.tokens.dictionary_encode()
        words = self._numbers(codes.dictionary.to_pylist())[codes.indices.to_numpy()]
        starts, sizes = self._bounds[words], self._bounds[words + 1] - self._bounds[words]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        ids = self._ids[np.repeat(starts - ends[:-1], sizes) + np.arange(ends[-1])]
        return ids, replace(pieces, bounds=ends[pieces.bounds])

    def _numbers(self, words: list[str]) -> Numbers:
        """The places of words among those whose ids are kept."""
        if len(self._places) > WORDS_KEPT:
            self._begin()
        new = [word for word in words if word not in self._places]
        if new:
            ids = self._tokenize(self._words.as_read(new))
            self._places.update(zip(new, range(len(self._places), len(self._places) + len(new)), strict=True))
            ends = self._bounds[-1] + np.cumsum([len(row) for row in ids], dtype=np.int64)
            self._ids = np.concatenate([self._ids, np.fromiter(chain.from_iterable(ids), np.int32)])
            self._bounds = np.concatenate([self._bounds, ends])
        return np.array([self._places[word] for word in words], np.int64)


class PlainBytes:
    """Ids of the bytes of any texts, where each byte is a token.

    Args:
        ids: of each byte, ``(256,)``.
    """

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self._ids = ids

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """That of a tokenizer that joins no bytes and changes none; None for any other."""
        whole = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
        if rust.normalizer is not None or rust.pre_tokenizer is None or finds_tokens_first(rust):
            return None
        if not whole.items() <= state_of(rust.pre_tokenizer).items() or not isinstance(rust.model, BPE):
            return None
        model = json.loads(rust.to_str())["model"]
        ids = [model["vocab"].get(symbol) for symbol in byte_symbols()]
        options = ("merges", "dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
        if None in ids or any(model.get(option) for option in options):
            return None
        return cls(np.array(ids, np.int32))

    def encode(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], Pieces]:
        """Ids of all tokens, ``(tokens,)``, and where those of each text lie."""
        given, offsets = bytes_of(texts)
        return self._ids[given], Pieces(pa.array([], pa.string()), offsets, np.empty(0, np.int64))
