"""Words of ASCII texts, found in all bytes of many texts at once.

The `tokenizers` library matches a regular expression and builds strings word by word, a microsecond each. Where each
byte says by itself whether it belongs to a word, stands alone, or separates, a tenth of that is enough. What is not
ASCII is left to the library, and the tokens are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

WORDS, CHARACTERS = r"\w+|[^\w\s]", r"[\s\S]"
"""The patterns of word and character vocabularies, as the library reads them."""
ROWS_AT_ONCE = 1024
LOOKED_UP = 4
"""Entries of the vocabulary for each token up to which all tokens are looked up by Arrow."""
_SEPARATES, _JOINS, _ALONE, _OTHER = range(4)
_NORMALIZERS = {"NFC", "NFKC", "Lowercase"}
"""Of which only the last changes ASCII."""
Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """The tokens of some texts, one after the other, and where those of each text begin and end, (texts + 1,).

    `left`: the texts that are not ASCII, in order; they have no tokens here.
    """

    tokens: pa.StringArray
    bounds: Numbers
    left: Numbers


class PlainWords:
    """How a `tokenizers.Tokenizer` cuts ASCII texts, if single bytes decide it.

    Args:
        kinds: of each byte, ``(256,)``: separates, joins its neighbours to a token, is a token, or needs the library.
        lowercase: whether letters are lowered first.
    """

    def __init__(self, kinds: Bytes, *, lowercase: bool) -> None:
        self._kinds = kinds
        letters = np.arange(256, dtype=np.uint8)
        if lowercase:
            letters[ord("A") : ord("Z") + 1] += ord("a") - ord("A")
        self._letters = letters if lowercase else None

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """How this tokenizer cuts; None if it takes more than single bytes."""
        steps = [] if rust.normalizer is None else _parts(_state(rust.normalizer), "normalizers")
        if rust.pre_tokenizer is None or not _NORMALIZERS.issuperset(step["type"] for step in steps):
            return None
        kinds = _kinds(_parts(_state(rust.pre_tokenizer), "pretokenizers"))
        lowercase = any(step["type"] == "Lowercase" for step in steps)
        return None if kinds is None else cls(kinds, lowercase=lowercase)

    def cut(self, texts: pa.StringArray) -> Pieces:
        """The tokens of texts without nulls."""
        _, offsets_buffer, data = texts.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
        given = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.empty(0, np.uint8)
        offsets -= offsets[0]
        kinds = self._kinds[given]
        left = np.empty(0, np.int64)
        if (kinds == _OTHER).any():
            others = np.flatnonzero(kinds == _OTHER)
            left = np.unique(np.searchsorted(offsets, others, side="right") - 1)
            for row in left.tolist():
                kinds[offsets[row] : offsets[row + 1]] = _SEPARATES
        kept, joins = kinds != _SEPARATES, kinds == _JOINS
        begins = kept.copy()
        begins[1:] &= ~(joins[1:] & joins[:-1])
        firsts = offsets[:-1][np.diff(offsets) > 0]
        begins[firsts] = kept[firsts]  # a text does not continue the one before
        bounds = np.concatenate([[0], np.cumsum(begins)])[offsets]
        content = given[kept] if self._letters is None else self._letters[given[kept]]
        starts = np.append(np.flatnonzero(begins[kept]), len(content)).astype(np.int32)
        return Pieces(_strings(starts, content), bounds, left)

    def count(self, rust: RustTokenizer, texts: Iterable[str]) -> Counter[str]:
        """How often each token occurs in texts without lone surrogates, those that are not ASCII included."""
        counts: Counter[str] = Counter()
        split = rust.pre_tokenizer.pre_tokenize_str
        normalize = (lambda text: text) if rust.normalizer is None else rust.normalizer.normalize_str
        for some in _batches(texts):
            pieces = self.cut(pa.array(some, pa.string()))
            found = pc.value_counts(pieces.tokens)
            counts.update(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
            for row in pieces.left.tolist():
                counts.update(word for word, _ in split(normalize(some[row])))
        return counts


class PlainVocabulary:
    """Ids of the tokens that `PlainWords` finds.

    Args:
        words: how texts are cut.
        vocabulary: ids by token.
        unknown: the id of all other tokens.
    """

    def __init__(self, words: PlainWords, vocabulary: dict[str, int], unknown: int) -> None:
        self._words, self._vocabulary, self._unknown = words, vocabulary, unknown
        self._tokens = pa.array(list(vocabulary), pa.string())
        self._ids = np.array([*vocabulary.values(), unknown], np.int32)

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """That of a tokenizer which looks whole words or characters up; None for any other."""
        from tokenizers.models import WordLevel

        if not isinstance(rust.model, WordLevel) or (words := PlainWords.of(rust)) is None:
            return None
        added = rust.get_added_tokens_decoder().values()
        if not (rust.encode_special_tokens and all(token.special for token in added)):
            return None  # some tokens are found in texts before these are cut
        vocabulary = rust.get_vocab(with_added_tokens=False)
        unknown = vocabulary.get(rust.model.unk_token)
        return None if unknown is None else cls(words, vocabulary, unknown)

    def encode(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], Pieces]:
        """Ids of all tokens, ``(tokens,)``, and where those of each text lie."""
        pieces = self._words.cut(texts)
        if len(self._tokens) < LOOKED_UP * len(pieces.tokens):  # Arrow hashes all of the vocabulary each time
            places = pc.index_in(pieces.tokens, value_set=self._tokens).fill_null(len(self._tokens))
            return self._ids[places.to_numpy()], pieces
        codes = pieces.tokens.dictionary_encode()
        known = [self._vocabulary.get(token, self._unknown) for token in codes.dictionary.to_pylist()]
        return np.array(known, np.int32)[codes.indices.to_numpy()], pieces


def _state(part: Any) -> dict[str, Any]:
    """What a part of a tokenizer is, as tokenizer.json has it."""
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def _parts(state: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [part for inner in state[key] for part in _parts(inner, key)] if state["type"] == "Sequence" else [state]


def _kinds(steps: list[dict[str, Any]]) -> Bytes | None:
    """What each byte is, by the steps of a pre-tokenizer."""
    kinds = np.full(256, _OTHER, np.uint8)
    if any(step["type"] != "Split" for step in steps):
        return None
    first, *guards = steps
    pattern, how = first["pattern"], (first["behavior"], first["invert"])
    if (pattern, how) == ({"Regex": WORDS}, ("Removed", True)):
        for byte in range(128):
            character = chr(byte)
            word = character.isalnum() or character == "_"
            kinds[byte] = _JOINS if word else _SEPARATES if character in " \t\n\v\f\r" else _ALONE
    elif (pattern, how) == ({"Regex": CHARACTERS}, ("Isolated", False)):
        kinds[:128] = _ALONE
    elif len(separator := pattern.get("String", "")) == 1 and separator.isascii() and how == ("Removed", False):
        kinds[:128] = _JOINS
        kinds[ord(separator)] = _SEPARATES
    else:
        return None
    for guard in guards:  # they cut within brackets, which are rare
        if not guard["pattern"].get("Regex", "").startswith(r"\["):
            return None
        kinds[ord("[")] = _OTHER
    return kinds


def _strings(starts: NDArray[np.int32], content: Bytes) -> pa.StringArray:
    return pa.StringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(content))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
