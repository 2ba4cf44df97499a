"""Words of ASCII texts, found in all bytes of many texts at once.

The `tokenizers` library matches a regular expression and builds strings word by word, a microsecond each. Where each
byte says by itself whether it belongs to a word, stands alone, or separates, a tenth of that is enough. What is not
ASCII is left to the library, and the tokens are the same. Words of which subwords are made: `plain_subwords`.
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
WHITESPACE = b" \t\n\v\f\r"
SPACED = [
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Strip", "strip_left": True, "strip_right": True},
]
"""The normalizers of a unigram vocabulary: single spaces, and none around the text."""
ROWS_AT_ONCE = 1024
LOOKED_UP = 4
"""Entries of the vocabulary for each token up to which all tokens are looked up by Arrow."""
_SEPARATES, _JOINS, _ALONE, _OTHER = range(4)
_NORMALIZERS = {"NFC", "NFKC", "Lowercase", "BertNormalizer", "Replace", "Strip"}
"""`Lowercase` changes ASCII, those after it only what `_kinds` leaves to the library and what separates words."""
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
        prefix: what the library has each word begin with.
    """

    def __init__(self, kinds: Bytes, *, lowercase: bool, prefix: str = "") -> None:
        self._kinds, self.prefix = kinds, prefix
        letters = np.arange(256, dtype=np.uint8)
        if lowercase:
            letters[ord("A") : ord("Z") + 1] += ord("a") - ord("A")
        self._letters = letters if lowercase else None

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """How this tokenizer cuts; None if it takes more than single bytes."""
        steps = [] if rust.normalizer is None else parts_of(state_of(rust.normalizer), "normalizers")
        if rust.pre_tokenizer is None or not _NORMALIZERS.issuperset(step["type"] for step in steps):
            return None
        cuts = parts_of(state_of(rust.pre_tokenizer), "pretokenizers")
        kinds = _kinds(cuts, [step for step in steps if step["type"] not in ("NFC", "NFKC", "Lowercase")])
        lowercase = any(step["type"] == "Lowercase" for step in steps)
        return None if kinds is None else cls(kinds, lowercase=lowercase, prefix=cuts[0].get("replacement", ""))

    def cut(self, texts: pa.StringArray) -> Pieces:
        """The tokens of texts without nulls."""
        given, offsets = bytes_of(texts)
        kinds = self._kinds[given]
        left = np.empty(0, np.int64)
        if (kinds == _OTHER).any():
            others = np.flatnonzero(kinds == _OTHER)
            left = np.unique(np.searchsorted(offsets, others, side="right") - 1)
            for row in left.tolist():
                kinds[offsets[row] : offsets[row + 1]] = _OTHER
        if self._letters is not None:
            given = self._letters[given]
        kept, begins = self._found(given, kinds, offsets[:-1][np.diff(offsets) > 0])
        bounds = np.concatenate([[0], np.cumsum(begins)])[offsets]
        content = given[kept]
        starts = np.append(np.flatnonzero(begins[kept]), len(content)).astype(np.int32)
        return Pieces(_strings(starts, content), bounds, left)

    def as_read(self, words: list[str]) -> list[str]:
        """Words as the model of the library reads them."""
        return [f"{self.prefix}{word}" for word in words] if self.prefix else words

    def _found(self, given: Bytes, kinds: Bytes, firsts: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which bytes belong to tokens, and where these begin; `firsts`: where the texts do."""
        del given
        joins = kinds == _JOINS
        kept = joins | (kinds == _ALONE)
        begins = kept.copy()
        begins[1:] &= ~(joins[1:] & joins[:-1])
        begins[firsts] = kept[firsts]  # a text does not continue the one before
        return kept, begins

    def count(self, rust: RustTokenizer, texts: Iterable[str]) -> Counter[str]:
        """How often each token occurs in texts without lone surrogates, those that are not ASCII included."""
        counts: Counter[str] = Counter()
        split = rust.pre_tokenizer.pre_tokenize_str
        normalize = (lambda text: text) if rust.normalizer is None else rust.normalizer.normalize_str
        for some in _batches(texts):
            pieces = self.cut(pa.array(some, pa.string()))
            found = pc.value_counts(pieces.tokens)
            words = (f"{self.prefix}{word}" for word in found.field("values").to_pylist())
            counts.update(dict(zip(words, found.field("counts").to_pylist(), strict=True)))
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

        words = PlainWords.of(rust) if isinstance(rust.model, WordLevel) else None
        if words is None or words.prefix:
            return None
        if finds_tokens_first(rust):
            return None
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


def bytes_of(texts: pa.StringArray) -> tuple[Bytes, Numbers]:
    """The UTF-8 bytes of texts without nulls, one after the other, and the bounds of each, ``(texts + 1,)``."""
    _, bounds, data = texts.buffers()
    if bounds is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(bounds, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    given = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.empty(0, np.uint8)
    return given, offsets - offsets[0]


def finds_tokens_first(rust: RustTokenizer) -> bool:
    """Whether the library looks for some tokens in texts before it cuts them."""
    added = rust.get_added_tokens_decoder().values()
    return not (rust.encode_special_tokens and all(token.special for token in added))


def state_of(part: Any) -> dict[str, Any]:
    """What a part of a tokenizer is, as tokenizer.json has it."""
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def parts_of(state: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The steps of a part, those of sequences one by one; `key`: what a sequence calls them."""
    return [part for inner in state[key] for part in parts_of(inner, key)] if state["type"] == "Sequence" else [state]


def _kinds(steps: list[dict[str, Any]], normalizers: list[dict[str, Any]]) -> Bytes | None:
    """What each byte is, by the steps of a pre-tokenizer, and those of a normalizer that change ASCII."""
    first, *guards = steps
    if any(step["type"] != "Split" for step in guards):
        return None
    kinds = np.full(256, _OTHER, np.uint8)
    printable = list(range(33, 127))
    marks = [byte for byte in printable if not chr(byte).isalnum()]
    if first == {"type": "BertPreTokenizer"} and [step["type"] for step in normalizers] == ["BertNormalizer"]:
        if normalizers[0]["lowercase"]:
            return None
        kinds[printable], kinds[marks], kinds[[*b" \t\n\r"]] = _JOINS, _ALONE, _SEPARATES
    elif first["type"] == "Metaspace" and normalizers == SPACED:
        if (first["prepend_scheme"], first["split"]) != ("always", True):
            return None
        kinds[printable], kinds[[*WHITESPACE]] = _JOINS, _SEPARATES
    elif first["type"] != "Split" or normalizers:
        return None
    else:
        pattern, how = first["pattern"], (first["behavior"], first["invert"])
        if (pattern, how) == ({"Regex": WORDS}, ("Removed", True)):
            kinds[:128] = _ALONE
            kinds[[byte for byte in range(128) if chr(byte).isalnum() or chr(byte) == "_"]] = _JOINS
            kinds[[*WHITESPACE]] = _SEPARATES
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
