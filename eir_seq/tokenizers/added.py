"""Tokens added to a vocabulary: found in a text before the rest of it is cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tokenizers import AddedToken


class AddedTokens:
    """Added tokens by id; without `in_text` those that are in a text are characters like any others."""

    def __init__(self, by_id: Mapping[int, AddedToken], *, in_text: bool) -> None:
        self.by_id, self.in_text = dict(by_id), in_text
        self.ids: dict[str, int] = {token.content: number for number, token in by_id.items()}
        self.special_ids = frozenset(number for number, token in by_id.items() if token.special)
        longest_first = sorted(by_id.values(), key=lambda token: -len(token.content))
        self._split = re.compile(f"({'|'.join(map(_pattern, longest_first))})") if by_id and in_text else None

    def content(self, token_id: int) -> str | None:
        """The token of an id, None if no added one has it."""
        token = self.by_id.get(token_id)
        return None if token is None else str(token.content)

    def extended(self, tokens: Iterable[AddedToken], id_of: Callable[[str], int | None], unused: int) -> AddedTokens:
        """These and further ones; those that `id_of` does not know get ids from `unused` on."""
        by_id, ids = dict(self.by_id), dict(self.ids)
        for token in tokens:
            if token.content in ids:
                continue
            number = id_of(token.content)
            if number is None:
                number, unused = unused, unused + 1
            by_id[number], ids[token.content] = token, number
        return AddedTokens(by_id, in_text=self.in_text)

    def cut(self, text: str, shift: int = 0) -> list[tuple[int | str, int]]:
        """Ids of the added tokens in a text and the strings between them, each with its start, counted from `shift`."""
        cut = self._split.split(text) if self._split else [text]
        result: list[tuple[int | str, int]] = []
        for index, piece in enumerate(cut):
            start, shift = shift, shift + len(piece)
            if index % 2:
                result.append((self.ids[piece], start))
                continue
            if index and self.by_id[self.ids[cut[index - 1]]].rstrip:
                start += len(piece) - len(piece.lstrip())
                piece = piece.lstrip()
            if index + 1 < len(cut) and self.by_id[self.ids[cut[index + 1]]].lstrip:
                piece = piece.rstrip()
            if piece:
                result.append((piece, start))
        return result

    def as_json(self) -> dict[str, dict[str, Any]]:
        """As `added_tokens_decoder` of a tokenizer config lists them."""
        flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        return {str(number): {flag: getattr(token, flag) for flag in flags} for number, token in self.by_id.items()}


def _pattern(token: AddedToken) -> str:
    found = re.escape(token.content)
    return f"(?<![^ ]){found}(?![^ ])" if token.single_word else found
