"""Where the special tokens of a format are around one text or a pair of texts, as a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

FIRST, SECOND = -1, -2  # stand for the ids of the first and of the second text
TYPE_PATTERNS = ("all_zeros", "bert_style")


class Part(NamedTuple):
    """One element of a framed sequence: a special token's id, or FIRST or SECOND, and the type id it gets."""

    token: int
    type_id: int


@dataclass(frozen=True)
class Framing:
    """The order of special tokens and texts, for a single text and for a pair.

    `once`: a special token is left out after a text that ends with it already.
    """

    single: tuple[Part, ...]
    pair: tuple[Part, ...]
    once: bool = False

    def apply(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Token ids with the special tokens in place, and the type id of each."""
        framed: list[int] = []
        type_ids: list[int] = []
        for part, piece in self._pieces(ids, pair_ids):
            framed.extend(piece)
            type_ids.extend([part.type_id] * len(piece))
        return framed, type_ids

    def special_mask(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """1 at the special tokens that `apply` sets around the texts, else 0."""
        return [int(part.token >= 0) for part, piece in self._pieces(ids, pair_ids) for _ in piece]

    def _pieces(self, ids: Sequence[int], pair_ids: Sequence[int] | None) -> Iterator[tuple[Part, Sequence[int]]]:
        text: Sequence[int] = ()
        for part in self.single if pair_ids is None else self.pair:
            if self.once and text and text[-1] == part.token:
                text = ()
                continue
            piece: Sequence[int] = (part.token,)
            if part.token == FIRST:
                piece = ids
            elif part.token == SECOND:
                assert pair_ids is not None
                piece = pair_ids
            text = piece if part.token < 0 else ()
            yield part, piece

    def typed(self, pattern: str | None) -> Framing:
        """The same with other type ids: "all_zeros", or "bert_style" with 1 from the second text on; None for none."""
        if pattern is None:
            return self

        def parts(own: tuple[Part, ...]) -> tuple[Part, ...]:
            found, type_id = [], 0
            for token, _ in own:
                type_id = 1 if token == SECOND and pattern == "bert_style" else type_id
                found.append(Part(token, type_id))
            return tuple(found)

        return Framing(parts(self.single), parts(self.pair), self.once)

    def count(self, *, pair: bool) -> int:
        """Number of special tokens that the framing adds."""
        return sum(part.token >= 0 for part in (self.pair if pair else self.single))


PLAIN = Framing(single=(Part(FIRST, 0),), pair=(Part(FIRST, 0), Part(SECOND, 1)))


def read_framing(post_processor: Any) -> Framing:
    """The framing that a `tokenizers` post-processor of any kind does, read off from its effect on one-token texts."""
    if post_processor is None:
        return PLAIN
    probe = RustTokenizer(WordLevel({"a": 0}, unk_token="a"))
    probe.pre_tokenizer = WhitespaceSplit()
    probe.post_processor = post_processor

    def parts(*texts: str) -> tuple[Part, ...]:
        encoding = probe.encode(*texts)
        rows = zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True)
        return tuple(Part(token if text is None else (FIRST, SECOND)[text], type_id) for token, type_id, text in rows)

    return Framing(single=parts("a"), pair=parts("a", "a"))
