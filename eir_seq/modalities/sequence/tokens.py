"""From what is in the text column to token ids, each with its word or its characters where that is requested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from eir_seq.modalities.sequence.tensors.base import Content
from eir_seq.modalities.sequence.truncation import Ids
from eir_seq.tokenizers import Tokenizer

_BYTE_SPACE = "\u0120"
"""The token of a space in byte-level vocabularies, which tell the begin of a word by it."""


@dataclass(frozen=True)
class Tokens:
    """Of each row: `ids`; `words`, the number of each token's word (-1 for none); `offsets`, its characters.

    `words` and `offsets` (tokens, 2) are None if they are not known. `shortened`: 1 for rows that were cut.
    """

    ids: list[Ids]
    words: list[Ids] | None
    offsets: list[NDArray[np.int64]] | None
    shortened: NDArray[np.int32]


def tokenize(
    tokenizer: Tokenizer, contents: Sequence[Content], limit: int, *, offsets: bool = False, spaced: bool = True
) -> Tokens:
    """Tokens of texts, or of words one by one, from no more than their first `limit` characters.

    `spaced`: words are part of a sentence, so that byte-level vocabularies read them with the preceding space; the
    texts of a page's nodes begin without one.
    """
    if contents and contents[0].words is not None:
        tokens = _of_words(tokenizer, [content.words or () for content in contents], limit, spaced)
    else:
        texts = [content.text or "" for content in contents]
        encodings = tokenizer.encode_batch([text[:limit] for text in texts], offsets=offsets)
        spans = [np.array(encoding.offsets, np.int64).reshape(-1, 2) for encoding in encodings] if offsets else None
        shortened = np.array([len(text) > limit for text in texts], np.int32)
        tokens = Tokens([np.asarray(encoding.ids, np.int32) for encoding in encodings], None, spans, shortened)
    if tokenizer.num_specials() == 0:
        _fill_empty(tokenizer, tokens)
    return tokens


def joined(content: Content, separator: str) -> str:
    """Words as one text, as a tokenizer that is trained on texts reads them."""
    return content.text if content.text is not None else separator.join(content.words or ())


def _of_words(tokenizer: Tokenizer, rows: Sequence[Sequence[str]], limit: int, spaced: bool) -> Tokens:
    kept = [[word for word, end in zip(row, accumulate(map(len, row)), strict=True) if end <= limit] for row in rows]
    space = leading_space(tokenizer, spaced=spaced)
    encodings = iter(tokenizer.encode_batch([space + word for row in kept for word in row]))
    ids: list[Ids] = []
    words: list[Ids] = []
    for row in kept:
        pieces = [next(encodings).ids for _ in row]
        ids.append(np.array([token for piece in pieces for token in piece], np.int32))
        words.append(np.repeat(np.arange(len(row), dtype=np.int32), [len(piece) for piece in pieces]))
    shortened = np.array([len(some) < len(row) for some, row in zip(kept, rows, strict=True)], np.int32)
    return Tokens(ids, words, None, shortened)


def leading_space(tokenizer: Tokenizer, *, spaced: bool) -> str:
    """What precedes each word of a list: the space that byte-level vocabularies read with it."""
    return " " if spaced and tokenizer.token_to_id(_BYTE_SPACE) is not None else ""


def empty_token(tokenizer: Tokenizer) -> int:
    """What a row without any token gets, which would have nothing to attend to: a token that means nothing."""
    return tokenizer.unk_id if tokenizer.unk_id is not None else (tokenizer.eos_id or 0)


def _fill_empty(tokenizer: Tokenizer, tokens: Tokens) -> None:
    """A row without any token would have nothing to attend to: it gets one that means nothing."""
    empty = empty_token(tokenizer)
    for index, row in enumerate(tokens.ids):
        if len(row) == 0:
            tokens.ids[index] = np.array([empty], np.int32)
            if tokens.words is not None:
                tokens.words[index] = np.array([-1], np.int32)
            if tokens.offsets is not None:
                tokens.offsets[index] = np.zeros((1, 2), np.int64)
