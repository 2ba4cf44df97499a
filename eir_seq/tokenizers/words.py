"""Byte-pair encoding of whole words (Sennrich et al. 2016): a piece that does not end its word ends with `@@`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken

from eir_seq.tokenizers.added import AddedTokens
from eir_seq.tokenizers.backend import Offsets

_MARK, _END, _LINE_BREAK = "@@", "</w>", "__newln__"
# The separators U+001C to U+001F are white space for Python's expressions alone.
_WORD = re.compile(r"[\S\x1c-\x1f]+\n?")
_SPACES = re.compile(r"[^\S\x1c-\x1f]{2,}")
_MAX_CACHED = 100_000


class WordBackend:
    """The words of a text, each cut by the merges; pieces that the vocabulary lacks get the id of `unk`.

    `conversational`: as Blenderbot-small reads a text, in lower case, with punctuation marks as their own words and
    `__newln__` for a line break after a word; else as CTRL does, for which a line break is the end of its word.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        added: Mapping[int, AddedToken],
        *,
        unk: str,
        class_name: str,
        conversational: bool,
        specials_in_text: bool,
    ) -> None:
        self._files, self._vocabulary, self._merges, self._unk = files, vocabulary, merges, unk
        self._class_name, self._conversational, self._specials_in_text = class_name, conversational, specials_in_text
        self._added = AddedTokens(added, in_text=specials_in_text)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._by_id = {number: token for token, number in vocabulary.items()}
        self._known: dict[str, list[str]] = {}

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return 1 + max([*self._by_id, *self._added.by_id], default=-1)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the added tokens that are special."""
        return self._added.special_ids

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if it has none."""
        return self._added.ids.get(token, self._vocabulary.get(token))

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""
        return self._added.content(token_id) or self._by_id.get(token_id)

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids."""
        return {**self._vocabulary, **self._added.ids}

    def added_vocabulary(self) -> dict[str, int]:
        """The added tokens with their ids."""
        return dict(self._added.ids)

    def add_tokens(self, tokens: Sequence[AddedToken]) -> int:
        """Set tokens outside the vocabulary; how many of them are new."""
        before = self.vocab_size
        self._added = self._added.extended(tokens, self.token_to_id, before)
        return self.vocab_size - before

    def seed(self, seed: int) -> None:
        """Nothing is drawn here."""

    def encode(self, texts: list[str], *, offsets: bool) -> list[tuple[list[int], Offsets | None]]:
        """Ids of each text, and offsets in characters if wanted."""
        rows: list[tuple[list[int], Offsets | None]] = []
        for text in texts:
            found = list(self._pieces(text))
            rows.append(([number for number, _ in found], [span for _, span in found] if offsets else None))
        return rows

    def _pieces(self, text: str) -> Iterator[tuple[int, tuple[int, int]]]:
        unk = self._vocabulary[self._unk]
        for segment, start in self._added.cut(text):
            if isinstance(segment, int):
                yield segment, (start, start + len(self._added.by_id[segment].content))
                continue
            for match in _WORD.finditer(segment):
                for piece, (first, last) in self._of_word(match.group()):
                    shift = start + match.start()
                    yield self._vocabulary.get(piece, unk), (shift + first, shift + last)

    def _of_word(self, word: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """The pieces of a word, a line break after it included, and their characters."""
        if not self._conversational:
            parts, origins = [word], list(range(len(word)))
        else:
            spaced = re.sub(r"([.,!?()])", r" \1", word)
            spaced = _SPACES.sub(" ", spaced.replace("'", " ' "))
            parts = spaced.replace("\n", f" {_LINE_BREAK}").lower().split(" ")
            origins = [index for index, character in enumerate(word) for _ in character.lower()]
            if word.endswith("\n"):
                origins[-1:] = [len(word) - 1] * len(_LINE_BREAK)
        at = 0
        for part in filter(None, parts):
            for piece in self._cut(part):
                end = at + len(piece.removesuffix(_MARK) if piece.endswith(_MARK) else piece)
                yield piece, (origins[at], origins[end - 1] + 1)
                at = end

    def _cut(self, word: str) -> list[str]:
        if (known := self._known.get(word)) is not None:
            return known
        pieces = [*word[:-1], word[-1] + _END]
        while len(pieces) > 1:
            pairs = set(pairwise(pieces))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged: list[str] = []
            for piece in pieces:
                if merged and (merged[-1], piece) == best:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
        cut = [piece + _MARK for piece in pieces[:-1]] + [pieces[-1].removesuffix(_END)]
        if len(self._known) < _MAX_CACHED:
            self._known[word] = cut
        return cut

    def decode(self, ids: list[int], *, skip_specials: bool) -> str:
        """Text of the ids: words with single spaces between them."""
        parts: list[str] = []
        for number in ids:
            if not (skip_specials and number in self._added.special_ids):
                parts.append(self.id_to_token(number) or self._unk)
        return " ".join(parts).replace(f"{_MARK} ", "").strip()

    def files(self) -> dict[str, bytes]:
        """vocab.json and merges.txt."""
        return dict(self._files)

    vocabulary_files = files

    def options(self) -> dict[str, Any]:
        """The class that reads it, and the added tokens."""
        split = {} if self._specials_in_text else {"split_special_tokens": True}
        return {"tokenizer_class": self._class_name, **split, "added_tokens_decoder": self._added.as_json()}
