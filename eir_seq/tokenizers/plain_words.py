"""Words of texts, found in all characters of many texts at once.

The `tokenizers` library matches a regular expression and builds strings word by word, a microsecond each. Where each
character says by itself whether it belongs to a word, stands alone, or separates, a tenth of that is enough. What a
character does is asked of the library when it is first seen. What a normalizer changes goes to the library with its
word, once per distinct one, so that the tokens are the same. Their ids: `plain_subwords`.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from eir_seq.rows import bytes_of

WORDS, CHARACTERS = r"\w+|[^\w\s]", r"[\s\S]"
"""The patterns of word and character vocabularies, as the library reads them."""
SPACED = [
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Strip", "strip_left": True, "strip_right": True},
]
"""The normalizers of a unigram vocabulary: single spaces, and none around the text."""
ROWS_AT_ONCE = 1024
UNSEEN, SEPARATES, JOINS, ALONE, WHOLE, OTHER = range(6)
"""What a character does. `WHOLE`: its word is cut by the library, normalizer included; `OTHER`: its text is."""
BY_CHARACTER = {"NFC", "NFKC", "Lowercase"}
"""Normalizers that change a character, and whether it joins marks, whatever words are around it."""
_SYLLABLES = (("\u1100", "\u11ff"), ("\U00016d40", "\U00016d7f"))
"""Scripts whose letters join to others: Hangul, and Kirat Rai, which few versions of Unicode have."""
Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Points = NDArray[np.uint8] | NDArray[np.uint32]


@dataclass(frozen=True)
class Pieces:
    """The tokens of some texts, one after the other, and where those of each text begin and end, (texts + 1,).

    `whole`: those of them that the library is to cut, normalizer included. `left`: the texts that are left to it, in
    order; they have no tokens here.
    """

    tokens: pa.StringArray
    bounds: Numbers
    left: Numbers
    whole: frozenset[str] = frozenset()


class PlainWords:
    """How a `tokenizers.Tokenizer` cuts texts, if single characters decide it.

    Args:
        rust: the tokenizer.
        lowercase: whether letters are lowered first.
        prefix: what the library has each word begin with.
        kinds: what characters do of which the library need not be asked.
    """

    def __init__(self, rust: RustTokenizer, *, lowercase: bool, prefix: str = "", kinds: dict[str, int]) -> None:
        self._rust, self._lowercase, self.prefix = rust, lowercase, prefix
        self._kinds = np.zeros(sys.maxunicode + 1, np.uint8)
        for character, kind in kinds.items():
            self._kinds[ord(character)] = kind

    @classmethod
    def of(cls, rust: RustTokenizer) -> Self | None:
        """How this tokenizer cuts; None if it takes more than single characters."""
        if rust.pre_tokenizer is None:
            return None
        steps = [] if rust.normalizer is None else parts_of(state_of(rust.normalizer), "normalizers")
        first, *guards = parts_of(state_of(rust.pre_tokenizer), "pretokenizers")
        if not _decided_by_characters(first, [step for step in steps if step["type"] not in BY_CHARACTER]):
            return None
        kinds = {"▁": OTHER} if first["type"] == "Metaspace" else {}
        for guard in guards:  # it cuts within brackets, which are rare
            if guard["type"] != "Split" or not guard["pattern"].get("Regex", "").startswith(r"\["):
                return None
            kinds["["] = WHOLE
        lowercase = any(step["type"] == "Lowercase" for step in steps)
        return cls(rust, lowercase=lowercase, prefix=first.get("replacement", ""), kinds=kinds)

    def cut(self, texts: pa.StringArray) -> Pieces:
        """The tokens of texts without nulls."""
        given, offsets = bytes_of(texts)
        points, places = _characters(given)
        widths = None if places is None else np.diff(places, append=len(given))
        offsets = offsets if places is None else np.searchsorted(places, offsets)
        kinds = self._kinds_of(points)
        left = np.empty(0, np.int64)
        if (kinds == OTHER).any():
            left = np.unique(np.searchsorted(offsets, np.flatnonzero(kinds == OTHER), side="right") - 1)
            others = np.zeros(len(texts), bool)
            others[left] = True
            kinds[np.repeat(others, np.diff(offsets))] = OTHER
        kept, begins = self._found(points, kinds, offsets[:-1][np.diff(offsets) > 0])
        ends = np.cumsum(begins, dtype=np.int32)
        whole = np.zeros(ends[-1] if len(ends) else 0, bool)
        whole[ends[kinds == WHOLE] - 1] = True
        letters = given
        if self._lowercase:
            upper = (given >= ord("A")) & (given <= ord("Z"))
            if whole.any():
                upper &= _of_bytes(~whole[ends - 1], widths)
            letters = given + upper * np.uint8(ord("a") - ord("A"))
        content = letters[_of_bytes(kept, widths)]
        starts = np.flatnonzero(begins[kept]) if widths is None else _starts(widths[kept], begins[kept])
        tokens = _strings(np.append(starts, len(content)).astype(np.int32), content)
        known = frozenset(tokens.filter(pa.array(whole)).unique().to_pylist()) if whole.any() else frozenset()
        return Pieces(tokens, np.concatenate([[0], ends])[offsets], left, known)

    def as_read(self, word: str) -> str:
        """A word as the model of the library reads it."""
        return f"{self.prefix}{word}"

    def _found(self, points: Points, kinds: Bytes, firsts: Numbers) -> tuple[Flags, Flags]:
        """Which characters belong to tokens, and where these begin; `firsts`: where the texts do."""
        del points
        first = np.zeros(len(kinds), bool)
        first[firsts] = True
        whole = kinds == WHOLE
        kinds[:-1][(kinds[:-1] == ALONE) & whole[1:] & ~first[1:]] = WHOLE  # marks may change what is before them
        joins = (kinds == JOINS) | (kinds == WHOLE)
        kept = joins | (kinds == ALONE)
        begins = kept.copy()
        begins[1:] &= ~(joins[1:] & joins[:-1]) | first[1:]
        return kept, begins

    def _kinds_of(self, points: Points) -> Bytes:
        kinds = self._kinds[points]
        if (kinds == UNSEEN).any():
            for point in np.unique(points[kinds == UNSEEN]).tolist():
                self._kinds[point] = self._kind(chr(point))
            kinds = self._kinds[points]
        return kinds

    def _kind(self, character: str) -> int:
        if self._lowercase and character.isascii():
            character = character.lower()
        if joins_others(character):
            return WHOLE
        words, end = self.words_of(f"a{character}a"), self.as_read("a")
        if words == [end, character, end]:
            return ALONE
        if words == [end, end]:
            return SEPARATES
        return JOINS if words == [f"{end}{character}a"] else WHOLE

    def words_of(self, text: str) -> list[str]:
        """The words of a text by the library."""
        return [word for word, _ in self._rust.pre_tokenizer.pre_tokenize_str(self.normalized(text))]

    def normalized(self, text: str) -> str:
        """A text as the normalizer of the library gives it."""
        normalizer = self._rust.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def count(self, texts: Iterable[str]) -> Counter[str]:
        """How often each token occurs in texts without lone surrogates."""
        counts, whole = Counter[str](), Counter[str]()
        for some in _batches(texts):
            pieces = self.cut(pa.array(some, pa.string()))
            found = pc.value_counts(pieces.tokens)
            words, often = found.field("values").to_pylist(), found.field("counts").to_pylist()
            own = dict(zip(words, often, strict=True))
            whole.update({word: own.pop(word) for word in pieces.whole})
            counts.update({self.as_read(word): count for word, count in own.items()})
            for row in pieces.left.tolist():
                counts.update(self.words_of(some[row]))
        for word, count in whole.items():
            for part in self.words_of(word):
                counts[part] += count
        return counts


def joins_others(character: str) -> bool:
    """Whether a normalizer may join it to the one before: it is a mark, part of a syllable, or not known here."""
    if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cn"):
        return True
    return any(first <= character <= last for first, last in _SYLLABLES)


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


def _decided_by_characters(cut: dict[str, Any], normalizers: list[dict[str, Any]]) -> bool:
    """Whether single characters decide how this pre-tokenizer cuts what these normalizers give."""
    if cut["type"] == "BertPreTokenizer":
        return [step["type"] for step in normalizers] == ["BertNormalizer"] and not normalizers[0]["lowercase"]
    if cut["type"] == "Metaspace":
        return normalizers == SPACED and (cut["prepend_scheme"], cut["split"]) == ("always", True)
    if cut["type"] != "Split" or normalizers:
        return False
    pattern, how = cut["pattern"], (cut["behavior"], cut["invert"])
    if pattern in ({"Regex": WORDS}, {"Regex": CHARACTERS}):
        return how == (("Removed", True) if pattern["Regex"] == WORDS else ("Isolated", False))
    separator = pattern.get("String", "")
    plain = len(separator) == 1 and separator.isascii() and not separator.isalnum() and separator not in "<=>"
    return plain and how == ("Removed", False)  # no mark changes such a separator


def _characters(given: Bytes) -> tuple[Points, Numbers | None]:
    """The code points of UTF-8 bytes, and the byte at which each begins; None if all have one."""
    text = given.tobytes().decode()
    if text.isascii():
        return given, None
    return np.frombuffer(text.encode("utf-32-le"), np.uint32), np.flatnonzero((given & 0xC0) != 0x80)


def _of_bytes(flags: Flags, widths: Numbers | None) -> Flags:
    """Flags of characters, for each of their bytes."""
    return flags if widths is None else np.repeat(flags, widths)


def _starts(widths: Numbers, begins: Flags) -> Numbers:
    """The bytes at which tokens begin, of characters and which of them begin one."""
    return (np.cumsum(widths, dtype=np.int32) - widths)[begins]


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
