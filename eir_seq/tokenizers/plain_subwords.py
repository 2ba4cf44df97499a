"""Ids of texts whose words are found character by character: the library cuts each distinct one once.

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
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE

from eir_seq.rows import bytes_of
from eir_seq.tokenizers.byte_level import byte_symbols
from eir_seq.tokenizers.plain_words import (
    BY_CHARACTER,
    OTHER,
    WHOLE,
    Bytes,
    Flags,
    Numbers,
    Pieces,
    PlainWords,
    Points,
    finds_tokens_first,
    joins_others,
    parts_of,
    state_of,
)

WORDS_KEPT = 1 << 16
"""Distinct words whose ids are kept; after that it begins anew."""
_SPACE, _LETTER, _DIGIT, _MARK = range(OTHER + 1, OTHER + 5)
"""What characters are to the pattern of GPT-2."""
_CONTRACTIONS = {"s": 1, "t": 1, "m": 1, "d": 1, "re": 2, "ve": 2, "ll": 2}
"""What the pattern of GPT-2 (Radford et al. 2019) has after an apostrophe, and how long it is."""

Ids = Callable[[list[str]], list[list[int]]]
"""The ids of each text."""
_SYMBOLS = str.maketrans(dict(enumerate(byte_symbols())))


class GptWords(PlainWords):
    """How the byte-level pattern of GPT-2 cuts texts.

    A word is a contraction ('s), or a run of letters, digits or other marks with the space before it; of white space
    before a word, all but the last character is one, and so is that, if it is no space. What lies between white space
    is left to the library as a whole, with the space before it, where a normalizer may change a character of it.
    """

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """How this tokenizer cuts; None if it cuts in another way, or changes words beforehand."""
        cuts = [] if rust.pre_tokenizer is None else parts_of(state_of(rust.pre_tokenizer), "pretokenizers")
        steps = [] if rust.normalizer is None else parts_of(state_of(rust.normalizer), "normalizers")
        names = {step["type"] for step in steps}
        if len(cuts) != 1 or cuts[0]["type"] != "ByteLevel" or not BY_CHARACTER.issuperset(names):
            return None
        if cuts[0]["add_prefix_space"] or not cuts[0]["use_regex"]:
            return None
        return cls(rust, lowercase="Lowercase" in names, kinds={})

    def as_read(self, word: str) -> str:
        """Each byte as the character that stands for it."""
        return word.encode().decode("latin-1").translate(_SYMBOLS)

    def _kind(self, character: str) -> int:
        if self._lowercase and character.isascii():
            character = character.lower()
        normalized = self.normalized(character)
        if joins_others(character) or normalized != character:
            return OTHER if any(map(str.isspace, normalized)) else WHOLE
        for kind, beside in ((_LETTER, "a"), (_DIGIT, "1"), (_MARK, "!")):
            if len(self.words_of(f"{beside}{character}{beside}")) == 1:
                return kind
        return _SPACE

    def _found(self, points: Points, kinds: Bytes, firsts: Numbers) -> tuple[Flags, Flags]:
        size = len(points)
        first = np.zeros(size + 1, bool)
        first[firsts], first[size] = True, True
        spaces, blanks = kinds == _SPACE, points == ord(" ")
        begins = np.ones(size, bool)
        begins[1:] = kinds[1:] != kinds[:-1]
        begins[1:] &= ~(blanks[:-1] & ~spaces[1:])  # the space before a word is its first character
        last = np.zeros(size, bool)
        last[:-1] = spaces[:-1] & ~spaces[1:]
        begins |= (last & ~first[1:]) | first[:-1]
        kept = kinds != OTHER
        for at in np.flatnonzero((points == ord("'")) & begins & kept).tolist():
            letters = "".join(map(chr, points[at + 1 : at + 3].tolist()))
            letters = letters.lower() if self._lowercase else letters
            length = _CONTRACTIONS.get(letters[:1]) or _CONTRACTIONS.get(letters)
            if length is not None and not first[at + 1 : at + 1 + length].any():
                begins[at + 1] = False
                begins[at + 1 + length : at + 2 + length] = True
        if (whole := kinds == WHOLE).any():
            opens = first[:-1].copy()
            opens[1:] |= spaces[:-1]
            runs = np.cumsum(opens)
            changed = np.zeros(runs[-1] + 1, bool)
            changed[runs[whole]] = True
            begins &= opens | spaces | ~changed[runs]
        return kept, begins & kept


class PlainWordIds:
    """Ids of texts of which words are cut one by one.

    Args:
        words: how texts are cut into words.
        tokenize: the ids of words, as the model of the library reads them.
        encode: the ids of texts, by all of the library.
    """

    def __init__(self, words: PlainWords, tokenize: Ids, encode: Ids) -> None:
        self._words, self._tokenize, self._encode = words, tokenize, encode
        self._begin()

    def _begin(self) -> None:
        self._known = pa.array([], pa.string())
        self._ids = np.empty(0, np.int32)
        self._bounds = np.zeros(1, np.int64)

    @classmethod
    def of(cls, rust: RustTokenizer, tokenize: Ids, encode: Ids) -> Self | None:
        """That of a tokenizer whose words do not depend on each other or on chance; None for any other."""
        words = GptWords.of(rust) or PlainWords.of(rust)
        drawn = getattr(rust.model, "dropout", None)
        return None if words is None or drawn or finds_tokens_first(rust) else cls(words, tokenize, encode)

    def encode(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], Pieces]:
        """Ids of all tokens, ``(tokens,)``, and where those of each text lie."""
        pieces = self._words.cut(texts)
        words = self._places(pieces)
        if len(self._ids) == len(self._known) and (np.diff(self._bounds) == 1).all():
            return self._ids[words], pieces
        starts, sizes = self._bounds[words], self._bounds[words + 1] - self._bounds[words]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        ids = self._ids[np.repeat(starts - ends[:-1], sizes) + np.arange(ends[-1])]
        return ids, replace(pieces, bounds=ends[pieces.bounds])

    def _places(self, pieces: Pieces) -> Numbers:
        """The places of words among those whose ids are kept."""
        if len(self._known) > WORDS_KEPT:
            self._begin()
        places = pc.index_in(pieces.tokens, value_set=self._known)
        found: Numbers = places.fill_null(-1).to_numpy()
        if places.null_count:
            missing, count = pieces.tokens.filter(places.is_null()), len(self._known)
            new = missing.unique()
            self._keep(new, pieces.whole)
            found = found.astype(np.int64)
            found[found < 0] = pc.index_in(missing, value_set=new).to_numpy() + count
        return found

    def _keep(self, new: pa.StringArray, whole: frozenset[str]) -> None:
        words = new.to_pylist()
        cut = iter(self._encode([word for word in words if word in whole]))
        read = iter(self._tokenize([self._words.as_read(word) for word in words if word not in whole]))
        ids = [next(cut if word in whole else read) for word in words]
        self._known = pa.concat_arrays([self._known, new])
        ends = self._bounds[-1] + np.cumsum([len(row) for row in ids], dtype=np.int64)
        self._ids = np.concatenate([self._ids, np.fromiter(chain.from_iterable(ids), np.int32)])
        self._bounds = np.concatenate([self._bounds, ends])


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
